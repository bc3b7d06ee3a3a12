"""Further sessions for a guardrail that is neither shown nor broken, up to a limit.

Looking several times and stopping at the first good look would pass too often. The looks are
planned before the first, at most `K` of them, and each has the confidence 1 - (1 - c) / K
(Bonferroni): over all of them together an interval leaves out the truth no more often than c says.
The target is judged on the first sessions alone, whatever follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from recomind.evaluation.config import EvaluationConfig, GateConfig
from recomind.evaluation.gate import target_holds
from recomind.evaluation.guardrails import (
    NOT_SHOWN,
    guarded,
    hopeless,
    sessions_needed,
    status_of,
)
from recomind.evaluation.metrics import session_ratios
from recomind.evaluation.rollout import SessionOutcomes, joined
from recomind.evaluation.statistics import Lift, paired_lift

_FACTOR = 4  # by which the sessions grow at least: fewer looks, narrower intervals
_ROOM = 1.1  # over what is needed by the estimate

Play = Callable[[str, Tensor], SessionOutcomes]  # rolls an arm out on seeds
Draw = Callable[[int], Tensor]  # so many further seeds


def grow_for_guardrails(
    entry: dict[str, Any],
    outcomes: Mapping[str, SessionOutcomes],
    play: Play,
    draw: Draw,
    evaluation: EvaluationConfig,
    gate: GateConfig,
) -> None:
    """Put `guardrail_lift` into an entry of `environments`, after further sessions where needed.

    Args:
        entry: of a deciding environment; changed in place.
        outcomes: arm -> its first sessions.
        play: rolls an arm out on the seeds it is given.
        draw: draws seeds that no session had before.
        evaluation: names of the arms, confidence and limit.
        gate: guardrails and tolerances.
    """
    arms = (evaluation.policy_arm, evaluation.baseline_arm)
    if any(arm not in outcomes for arm in arms):
        return
    pair = [outcomes[arm] for arm in arms]
    num, limit = len(pair[0].depth), evaluation.sessions_limit
    confidence = 1.0 - (1.0 - evaluation.confidence) / num_looks(num, limit)
    table = _lifts(pair, gate, confidence)
    while target_holds(entry, gate) and num < limit and (wanted := _wanted(table, gate)):
        more = draw(min(limit, max(_FACTOR * num, wanted)) - num)
        pair = [joined([before, play(arm, more)]) for arm, before in zip(arms, pair, strict=True)]
        num, table = num + len(more), _lifts(pair, gate, confidence)
    entry["guardrail_lift"] = {metric: lift.to_dict() for metric, lift in table.items()}


def num_looks(num_sessions: int, limit: int) -> int:
    """Looks at most, from the first sessions to the limit.

    >>> num_looks(2000, 2000), num_looks(2000, 20_000)
    (1, 3)
    """
    return 1 + math.ceil(math.log(max(limit / num_sessions, 1.0), _FACTOR) - 1e-9)


def _wanted(table: Mapping[str, Lift], gate: GateConfig) -> int:
    """Sessions that the guardrails still ask for; 0 where all are decided, or one is hopeless."""
    wanted = 0
    for metric, way in guarded(gate):
        lift = table.get(metric)
        if lift is None or lift.low is None:
            continue
        plain, tolerance = lift.to_dict(), gate.tolerance_of(metric)
        if gate.block_unshown and hopeless(plain, way, tolerance):
            return 0  # this one blocks whatever the others come to
        if status_of(plain, way, tolerance) == NOT_SHOWN:
            wanted = max(wanted, math.ceil(_ROOM * (sessions_needed(plain, tolerance) or 0)))
    return wanted


def _lifts(pair: list[SessionOutcomes], gate: GateConfig, confidence: float) -> dict[str, Lift]:
    ours, theirs = (session_ratios(outcome) for outcome in pair)
    return {
        metric: paired_lift(ours[metric], theirs[metric], confidence, pair[0].user_id)
        for metric, _ in guarded(gate)
        if metric in ours and metric in theirs
    }
