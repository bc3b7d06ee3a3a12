"""Lift of one arm over another, with an interval that uses the pairing.

Symbols: `S` sessions; session s of both arms has the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from scipy.special import stdtrit
from torch import Tensor

from recomind.errors import ConfigError, SchemaError
from recomind.evaluation.clusters import clustered_error, num_clusters
from recomind.evaluation.metrics import (
    COVERAGE,
    SessionRatio,
    coverage,
    require_finite,
    session_ratios,
)
from recomind.evaluation.rollout import SessionOutcomes

PAIRED_DELTA = "paired delta method on the ratio of means"
CLUSTERED_DELTA = "paired delta method on the ratio of means, clustered by user"
OVER_SEEDS = "t interval over seeds of training"
OVER_BOTH = "over seeds of training and sessions (MOVER)"
NO_INTERVAL = "none"


@dataclass(kw_only=True, slots=True)
class Lift:
    """(mean(policy) - mean(baseline)) / |mean(baseline)|, with an interval.

    That is the ratio of both less 1 for a baseline above zero; of one below zero, such as the costs
    that an environment pays, above 0 is better as well. What could not be had is None.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int  # pairs of sessions, or seeds where it is pooled over seeds
    method: str
    reason: str | None = None  # why the value or the interval is None

    def to_dict(self) -> dict[str, float | int | str | None]:
        """As in `report.json`; `reason` only where there is one."""
        plain = asdict(self)
        if self.reason is None:
            del plain["reason"]
        return plain


def paired_lift(
    policy: SessionRatio,
    baseline: SessionRatio,
    confidence: float = 0.95,
    user_id: Tensor | None = None,
) -> Lift:
    """Lift of `policy` over `baseline`, both over the same sessions.

    With P and R the two metrics and r = P / R, session s moves r by
    (influence_P[s] - r influence_R[s]) / R to first order; the interval is r - 1 plus or minus a
    Student quantile times the standard error of that mean. Metrics that are ratios of sums
    (`session_depth_10plus`) carry numerator and denominator through the same linearisation. Both
    change sign where R is below zero. Where
    `user_id` [S] says that users have several sessions, the error is clustered by user; one id for
    all says nothing.

    Raises:
        SchemaError: the arms differ in their number of sessions, or have non-finite outcomes.
    """
    num = len(policy.numerator)
    if num != len(baseline.numerator):
        raise SchemaError(
            "arms are not paired",
            got=f"{num} and {len(baseline.numerator)} sessions",
            mend="roll both arms out on the same seeds",
        )
    require_finite("policy", policy)
    require_finite("baseline", baseline)
    reason = _why_no_lift(policy, baseline)
    if reason is not None:
        return _no_lift(num, reason)
    p, r = _value(policy), _value(baseline)
    sign = math.copysign(1.0, r)
    lift = sign * (p / r - 1.0)
    if min(policy.n, baseline.n) < 2:
        few = "fewer than two sessions count in one arm"
        return Lift(value=lift, low=None, high=None, n=num, method=NO_INTERVAL, reason=few)
    effect_S = sign * (policy.influence() - (p / r) * baseline.influence()) / r
    users = num_clusters(effect_S, user_id)
    if users in (1, num):  # each session is of another user, or nobody says whose they are
        half = student_quantile(confidence, num - 1) * _standard_error(effect_S)
        return Lift(value=lift, low=lift - half, high=lift + half, n=num, method=PAIRED_DELTA)
    half = student_quantile(confidence, users - 1) * clustered_error(effect_S, user_id)
    return Lift(value=lift, low=lift - half, high=lift + half, n=num, method=CLUSTERED_DELTA)


def lifts(
    policy: SessionOutcomes, baseline: SessionOutcomes, confidence: float = 0.95
) -> dict[str, Lift]:
    """Lift of every metric that both arms have; `coverage` without an interval."""
    ours, theirs = session_ratios(policy), session_ratios(baseline)
    table = {
        name: paired_lift(ours[name], theirs[name], confidence, policy.user_id)
        for name in ours
        if name in theirs
    }
    table[COVERAGE] = Lift(
        value=coverage(policy) / coverage(baseline) - 1.0,
        low=None,
        high=None,
        n=len(policy.depth),
        method=NO_INTERVAL,
        reason="coverage belongs to all sessions together",
    )
    return table


def pool_seeds(per_seed: Sequence[Lift], confidence: float = 0.95) -> Lift:
    """One mean lift over several seeds of training, with a t interval over the seeds.

    It answers "what would another training give", which the interval over sessions of a single
    training cannot: sessions of one seed are not independent evidence about the recipe.

    Raises:
        ConfigError: no lifts at all.
    """
    if not per_seed:
        raise ConfigError("no lifts to pool", expected="one lift per seed of training")
    num = len(per_seed)
    values = [lift.value for lift in per_seed if lift.value is not None]
    if len(values) < num:
        why = next(lift.reason for lift in per_seed if lift.value is None)
        return _no_lift(num, f"{num - len(values)} of {num} seeds have no lift: {why}")
    value_S = torch.tensor(values, dtype=torch.float64)
    if not bool(torch.isfinite(value_S).all()):
        raise SchemaError("a lift is not a finite number", got=values)
    mean = float(value_S.mean())
    if num < 2:
        one = "one seed has no spread"
        return Lift(value=mean, low=None, high=None, n=num, method=NO_INTERVAL, reason=one)
    half = student_quantile(confidence, num - 1) * _standard_error(value_S)
    return Lift(value=mean, low=mean - half, high=mean + half, n=num, method=OVER_SEEDS)


def over_seeds_and_sessions(per_seed: Sequence[Lift], confidence: float = 0.95) -> Lift:
    """One mean lift of several seeds that were all judged on the same sessions.

    The spread over seeds leaves out the luck that all of them share, that of the sessions and of
    the baseline. The half-width is therefore the root of the squares of two: that of `pool_seeds`,
    and the mean half-width over sessions, which that of the mean lift cannot exceed (Zou, Donner:
    "Construction of confidence limits about effect measures", Statistics in Medicine 2008).

    Raises:
        ConfigError: no lifts at all.
    """
    pooled, num = pool_seeds(per_seed, confidence), len(per_seed)
    if pooled.value is None or pooled.low is None:
        return pooled
    bounds = [(lift.low, lift.high) for lift in per_seed]
    halves = [(high - low) / 2 for low, high in bounds if low is not None and high is not None]
    if len(halves) < num:
        why = next(lift.reason for lift in per_seed if lift.low is None)
        reason = f"{num - len(halves)} of {num} seeds have no interval: {why}"
        return Lift(
            value=pooled.value, low=None, high=None, n=num, method=NO_INTERVAL, reason=reason
        )
    half = math.hypot(pooled.value - pooled.low, sum(halves) / num)
    low, high = pooled.value - half, pooled.value + half
    return Lift(value=pooled.value, low=low, high=high, n=num, method=OVER_BOTH)


def student_quantile(confidence: float, degrees: int) -> float:
    """Half-width of a two-sided interval in standard errors (Student's t).

    Raises:
        ConfigError: the confidence is not inside (0, 1).
    """
    if not 0.0 < confidence < 1.0:
        raise ConfigError("confidence of an interval", got=confidence, expected="(0, 1)")
    return float(stdtrit(degrees, 0.5 + confidence / 2))


def _why_no_lift(policy: SessionRatio, baseline: SessionRatio) -> str | None:
    if policy.n == 0 or baseline.n == 0:
        return "no session counts for the metric in one of the arms"
    if _value(baseline) == 0.0:
        return "the baseline's mean is 0, of which nothing is a ratio"
    return None


def _no_lift(num: int, reason: str) -> Lift:
    return Lift(value=None, low=None, high=None, n=num, method=NO_INTERVAL, reason=reason)


def _value(ratio: SessionRatio) -> float:
    value = ratio.value
    assert value is not None  # the caller has looked at `n`
    return value


def _standard_error(values_S: Tensor) -> float:
    return float(values_S.std()) / math.sqrt(len(values_S))
