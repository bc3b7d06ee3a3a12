"""Estimates of a target policy with their intervals, or a refusal where logs say too little."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from recomind.errors import ConfigError, SchemaError, did_you_mean
from recomind.evaluation.clusters import clustered_error, num_clusters
from recomind.evaluation.ope.estimators import ESTIMATORS, Estimator
from recomind.evaluation.ope.logs import LoggedSessions, Settings, Target, check
from recomind.evaluation.ope.weights import effective_size, log_ratio, weight
from recomind.evaluation.statistics import student_quantile


@dataclass(kw_only=True, slots=True)
class Overlap:
    """How much of the target policy the logs have seen."""

    effective_sessions: float  # (sum w)^2 / sum w^2 of whole sessions' weights
    effective_decisions: float  # the same of single decisions' ratios
    support: float  # share of the target's choices that the logging policy makes at all
    num_sessions: int
    num_decisions: int


def overlap_of(logs: LoggedSessions, target: Target) -> Overlap:
    """The overlap of two policies.

    The mean ratio over the logged decisions is 1 where the logging policy may do all that the
    target does, and the share of it that it may do else.
    """
    ratio_ST = log_ratio(logs, target)
    decisions = ratio_ST[logs.mask]
    return Overlap(
        effective_sessions=effective_size(ratio_ST.sum(1)),
        effective_decisions=effective_size(decisions),
        support=min(1.0, float(weight(decisions).mean())),
        num_sessions=len(ratio_ST),
        num_decisions=len(decisions),
    )


def estimate_all(
    logs: LoggedSessions,
    target: Target,
    settings: Settings | None = None,
    names: Sequence[str] = (),
) -> dict[str, Any]:
    """`{overlap, estimates: {name: {value, low, high, standard_error, n, num_users, method}}}`.

    An estimate that rests on too little is `{value: None, low: None, high: None, reason}`; so is
    one that lacks what it needs (Q values, states).

    Args:
        logs: sessions with propensities.
        target: the policy that is judged.
        settings: discount, clipping, confidence, and the bounds of a refusal.
        names: of `ESTIMATORS`; all where empty.

    Raises:
        ConfigError: an unknown estimator.
        SchemaError: as `check` does.
    """
    settings = settings or Settings()
    for name in names:
        if name not in ESTIMATORS:
            raise ConfigError(
                "unknown estimator", got=name, mend=did_you_mean(name, list(ESTIMATORS))
            )
    check(logs, target)
    overlap = overlap_of(logs, target)
    estimates = {
        name: _estimate(ESTIMATORS[name], logs, target, settings, overlap)
        for name in names or ESTIMATORS
    }
    return {
        "overlap": asdict(overlap),
        "propensities": "estimated" if logs.pscore_estimated else "logged",
        "estimates": estimates,
    }


def _estimate(
    estimator: Estimator,
    logs: LoggedSessions,
    target: Target,
    settings: Settings,
    overlap: Overlap,
) -> dict[str, Any]:
    reason = why_refused(overlap, settings, by_session=estimator.by_session)
    if reason is None and estimator.needs_q and target.q is None:
        reason = "there are no Q values of a model"
    if reason is not None:
        return _none(reason)
    try:
        found = estimator.estimate(logs, target, settings)
    except SchemaError as error:
        return _none(str(error))
    if not math.isfinite(found.value):
        return _none("its weights leave the range of numbers")
    return _with_interval(found.value, found.effect_S, logs.user_id, settings)


def why_refused(overlap: Overlap, settings: Settings, *, by_session: bool) -> str | None:
    """The sentence that refuses an estimate, or None."""
    if overlap.support < settings.min_support:
        return (
            f"the logs cover {overlap.support:.1%} of what the policy would do, "
            f"at least {settings.min_support:.1%} is asked for"
        )
    effective = overlap.effective_sessions if by_session else overlap.effective_decisions
    if effective < settings.min_effective:
        of = "sessions" if by_session else "decisions"
        num = overlap.num_sessions if by_session else overlap.num_decisions
        return (
            f"{num:,} {of} count for {effective:.1f} by their weights, "
            f"at least {settings.min_effective:g} are asked for"
        )
    return None


def _with_interval(
    value: float, effect_S: Tensor, user_id: Tensor | None, settings: Settings
) -> dict[str, Any]:
    error, users = clustered_error(effect_S, user_id), num_clusters(effect_S, user_id)
    entry = {"value": value, "standard_error": error, "n": len(effect_S), "num_users": users}
    if users < 2:
        return entry | {"low": None, "high": None, "reason": "one user has no spread"}
    half = student_quantile(settings.confidence, users - 1) * error
    method = "linearised, clustered by user"
    return entry | {"low": value - half, "high": value + half, "method": method}


def _none(reason: str) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "reason": reason}
