"""Held-out logged sessions as an environment of the report: it may veto and never decides.

A log holds what was shown and how likely that was in its pool, not the pool. A pool is drawn again
around the shown item, as the logging policy's pools were drawn: over such pools the ratio of both
probabilities is unbiased, since the logged one cancels. Ours. So the policies are judged on pools
of the logs' kind, not on those of their own index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recomind.data import SessionDataset
from recomind.evaluation.metrics import SessionRatio
from recomind.evaluation.ope.behaviour import Behaviour
from recomind.evaluation.ope.estimate import estimate_all
from recomind.evaluation.ope.estimators import ESTIMATORS
from recomind.evaluation.ope.logs import LoggedSessions, Settings, Target
from recomind.evaluation.ope.pools import CHUNK, pools_around
from recomind.evaluation.statistics import NO_INTERVAL, Lift, paired_lift
from recomind.rewards import task_weights
from recomind.streams import LANE_ACT, SessionStreams
from recomind.types import Candidates, CandidateSource, Policy

PER_SESSION, PER_DECISION = "reward_per_session", "reward_per_decision"
_USED = {PER_SESSION: "per_decision_snips", PER_DECISION: "snips"}  # what the entry shows of each


@dataclass(kw_only=True, slots=True)
class HeldOut:
    """Sessions with known propensities: their rows, laid out by session and step."""

    row: Tensor  # [S, T] int64
    mask: Tensor  # [S, T] bool

    @property
    def rows(self) -> Tensor:
        """[R] int64 rows of all decisions, session by session."""
        return self.row[self.mask]


def held_out_sessions(
    dataset: SessionDataset,
    num: int,
    horizon: int,
    generator: torch.Generator,
    *,
    known: bool = True,
) -> HeldOut | None:
    """At most `num` test sessions, cut at `horizon`; None if < 2.

    Only those with all propensities known, unless `known` is false.
    """
    rows = dataset.rows("test")
    rows = rows[dataset.position(rows) < horizon]
    session_R = dataset.session_index(rows)
    unknown = session_R[~torch.isfinite(dataset.propensity(rows)) & known].unique()
    begun = session_R[dataset.position(rows) == 0]
    kept = begun[~torch.isin(begun, unknown)].unique()
    kept = kept[torch.randperm(len(kept), generator=generator)[:num]].sort().values
    if len(kept) < 2:
        return None
    rows = rows[torch.isin(session_R, kept)]
    place = (torch.searchsorted(kept, dataset.session_index(rows)), dataset.position(rows))
    row_ST = torch.zeros(len(kept), horizon, dtype=torch.int64)
    mask_ST = torch.zeros(len(kept), horizon, dtype=torch.bool)
    row_ST[place], mask_ST[place] = rows, True
    return HeldOut(row=row_ST, mask=mask_ST)


def logs_entry(
    dataset: SessionDataset,
    held_out: HeldOut,
    policies: Mapping[str, Policy],
    pool: CandidateSource,
    reward_weights: Mapping[str, float],
    *,
    pair: tuple[str, str],
    settings: Settings,
    generator: torch.Generator,
    behaviour: Behaviour | None = None,
) -> dict[str, Any]:
    """An entry of `environments` of the kind "logs".

    Args:
        dataset: that the rows are of.
        held_out: from `held_out_sessions`.
        policies: arm -> a policy without luck of its own: greedy.
        pool: pools as those of the logging policy.
        reward_weights: that define the reward.
        pair: the arm on trial and its baseline.
        settings: of the estimates and their refusal.
        generator: draws the pools.
        behaviour: a model of who logged, in place of logged propensities; the entry says so.
    """
    pools = pools_around(dataset, held_out.rows, pool, generator)
    pscore_R = dataset.propensity(held_out.rows).double()
    if behaviour is not None:
        pscore_R = behaviour.propensities(dataset, held_out.rows, pools)
    whole, single = _logs_of(dataset, held_out, reward_weights, pscore_R)
    for each in (whole, single):
        each.pscore_estimated = behaviour is not None
    logs = {PER_SESSION: whole, PER_DECISION: single}
    arms: dict[str, dict[str, Any]] = {}
    ope: dict[str, dict[str, Any]] = {}
    effects: dict[tuple[str, str], Tensor] = {}
    for arm, policy in policies.items():
        prob_RK = _probabilities(dataset, held_out.rows, policy, pools)
        probs = {PER_SESSION: _laid_out(prob_RK, held_out.mask), PER_DECISION: prob_RK[:, None]}
        arms[arm], ope[arm] = {}, {}
        for metric, prob in probs.items():
            estimated = _estimated(metric, logs[metric], Target(prob=prob), settings)
            ope[arm][metric], arms[arm][metric], effect_S = estimated
            if effect_S is not None:
                effects[arm, metric] = effect_S
    return {
        "name": "held-out logs",
        "kind": "logs",
        "propensities": "logged" if behaviour is None else "estimated",
        "behaviour": None if behaviour is None else behaviour.calibration,
        "num_sessions": len(held_out.mask),
        "arms": arms,
        "lift": {
            metric: _lift(effects, metric, pair, each, settings).to_dict()
            for metric, each in logs.items()
        },
        "survival": {},
        "ope": ope,
    }


def _estimated(
    metric: str, logs: LoggedSessions, target: Target, settings: Settings
) -> tuple[dict[str, Any], dict[str, Any], Tensor | None]:
    """All estimates, the one that is shown as a measure, and what each session adds to it [S]."""
    found = estimate_all(logs, target, settings, _by_weights(logs))
    shown = found["estimates"][_USED[metric]]
    measure = _measure(shown, len(logs.reward))
    if shown["value"] is None:
        return found, measure, None
    values = ESTIMATORS[_USED[metric]].estimate(logs, target, settings)
    return found, measure, values.effect_S + values.value


def _by_weights(logs: LoggedSessions) -> list[str]:
    """Estimators that need nothing but propensities."""
    bandit = ["ips", "snips"]
    return bandit if logs.num_steps == 1 else [*bandit, "per_decision", "per_decision_snips"]


def _logs_of(
    dataset: SessionDataset,
    held_out: HeldOut,
    reward_weights: Mapping[str, float],
    pscore_R: Tensor,
) -> tuple[LoggedSessions, LoggedSessions]:
    """Whole sessions, and each decision as a session of its own. The logged item is in slot 0."""
    rows, mask_ST = held_out.rows, held_out.mask
    reward_R = dataset.labels(rows).double() @ task_weights(dataset.tasks, reward_weights).double()
    user_R = dataset.user_id(rows)
    zero_ST = torch.zeros(mask_ST.shape, dtype=torch.float64)
    whole = LoggedSessions(
        reward=zero_ST.masked_scatter(mask_ST, reward_R),
        pscore=(zero_ST + 1.0).masked_scatter(mask_ST, pscore_R),
        slot=torch.zeros(mask_ST.shape, dtype=torch.int64),
        mask=mask_ST,
        user_id=dataset.user_id(held_out.row[:, 0]),
    )
    single = LoggedSessions(
        reward=reward_R[:, None],
        pscore=pscore_R[:, None],
        slot=torch.zeros(len(rows), 1, dtype=torch.int64),
        mask=torch.ones(len(rows), 1, dtype=torch.bool),
        user_id=user_R,
    )
    return whole, single


@torch.no_grad()
def _probabilities(
    dataset: SessionDataset, rows: Tensor, policy: Policy, pools: list[Candidates]
) -> Tensor:
    """[R, K]: all on what the policy chooses."""
    parts = []
    for chunk, pool in zip(rows.split(CHUNK), pools, strict=True):
        state = dataset.state(chunk)
        uniforms = SessionStreams(chunk).uniform(state.step, 4, LANE_ACT)
        slot_B = policy.act(state, pool, uniforms).slot
        parts.append(torch.nn.functional.one_hot(slot_B, pool.item_id.shape[1]).double())
    return torch.cat(parts)


def _laid_out(prob_RK: Tensor, mask_ST: Tensor) -> Tensor:
    """[S, T, K], 0 after a session's end."""
    prob_STK = torch.zeros(*mask_ST.shape, prob_RK.shape[1], dtype=torch.float64)
    prob_STK[mask_ST] = prob_RK
    return prob_STK


def _measure(estimate: Mapping[str, Any], num: int) -> dict[str, Any]:
    error = estimate.get("standard_error") if estimate["value"] is not None else None
    return {"mean": estimate["value"], "standard_error": error, "n": num}


def _lift(
    effects: Mapping[tuple[str, str], Tensor],
    metric: str,
    pair: tuple[str, str],
    logs: LoggedSessions,
    settings: Settings,
) -> Lift:
    """The lift of `pair`, whose estimates are means of one effect a session."""
    if any((arm, metric) not in effects for arm in pair):
        return Lift(
            value=None,
            low=None,
            high=None,
            n=len(logs.reward),
            method=NO_INTERVAL,
            reason="the logs say too little of one of the arms",
        )
    ours, theirs = (
        SessionRatio(numerator=effect, denominator=torch.ones_like(effect))
        for effect in (effects[arm, metric] for arm in pair)
    )
    return paired_lift(ours, theirs, settings.confidence, logs.user_id)
