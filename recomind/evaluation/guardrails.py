"""Guardrails by non-inferiority: shown not to move the wrong way, not merely not caught doing so.

A guardrail holds where its whole interval stays inside the tolerance. It has moved where the whole
interval lies beyond it. In between it is *not shown*, and the width of the interval says how many
sessions would show it, were there no difference at all. Non-inferiority testing is that of clinical
trials (Piaggio et al., "Reporting of Noninferiority and Equivalence Randomized Trials", JAMA 2012).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from recomind.evaluation.config import GateConfig
from recomind.evaluation.presentation import interval, percent

HOLDS, MOVED, NOT_SHOWN, ABSENT = "holds", "moved", "not shown", "absent"
NEVER_SEEN = "never seen"  # in neither arm: nothing was tested, and no number of sessions is known
FALL, RISE = -1, 1  # the wrong way


@dataclass(kw_only=True, slots=True)
class Guardrail:
    """What is known of one guardrail in one environment."""

    metric: str
    environment: str
    status: str  # holds, moved, not shown, never seen or absent
    sentence: str
    tolerance: float  # ratio
    num_sessions: int  # sessions of each arm that it was judged on
    sessions_needed: int | None = None  # for each arm, where it is not shown and more would help

    def to_dict(self) -> dict[str, Any]:
        """As in `report.json`."""
        return asdict(self)

    def blocks(self, config: GateConfig) -> bool:
        """Whether it stands in the way of a release."""
        return self.status == MOVED or (self.status == NOT_SHOWN and config.block_unshown)


def guarded(config: GateConfig) -> list[tuple[str, int]]:
    """Every guardrail and its wrong way."""
    return [(m, FALL) for m in config.must_not_fall] + [(m, RISE) for m in config.must_not_rise]


def judge_guardrails(
    environment: Mapping[str, Any], config: GateConfig, policy_arm: str, baseline_arm: str
) -> list[Guardrail]:
    """Every guardrail of `config` in an entry of `environments`."""
    return [
        _judge(environment, metric, way, config, (policy_arm, baseline_arm))
        for metric, way in guarded(config)
    ]


def _judge(
    environment: Mapping[str, Any],
    metric: str,
    way: int,
    config: GateConfig,
    arms: tuple[str, str],
) -> Guardrail:
    lift = lift_of(environment, metric)
    name, tolerance = environment["name"], config.tolerance_of(metric)
    verb = "fell" if way == FALL else "rose"
    needed = None
    if lift is None:
        status, sentence = ABSENT, f"The guardrail {metric} does not exist in {name}."
    elif lift["low"] is None:
        status, sentence = _by_means(environment, metric, way, arms)
    else:
        status = status_of(lift, way, tolerance)
        allowed = percent(way * tolerance) if tolerance else "0 %"
        shown = f"{interval(lift)}"
        match status:
            case "holds":
                sentence = f"The guardrail {metric} holds in {name}: {shown}, within {allowed}."
            case "moved":
                sentence = (
                    f"The guardrail {metric} {verb} in {name}: {shown}; "
                    f"more than {allowed} is not allowed."
                )
            case _:
                needed = (
                    None if hopeless(lift, way, tolerance) else sessions_needed(lift, tolerance)
                )
                more = "no number of sessions shows a tolerance of 0"
                if hopeless(lift, way, tolerance):
                    more = "its estimate lies beyond that, and no further sessions were played"
                elif needed is not None:
                    more = f"with no difference at all it would take some {needed:,} sessions"
                sentence = (
                    f"The guardrail {metric} is not shown in {name}: {shown} does not exclude more "
                    f"than {allowed}; {more}, there were {lift['n']:,}."
                )
    num = environment.get("num_sessions", 0) if lift is None else lift["n"]
    return Guardrail(
        metric=metric,
        environment=name,
        status=status,
        sentence=sentence,
        tolerance=tolerance,
        num_sessions=num,
        sessions_needed=needed,
    )


def lift_of(environment: Mapping[str, Any], metric: str) -> Mapping[str, Any] | None:
    """The lift that a guardrail is judged by, over all sessions that were added for it."""
    further = environment.get("guardrail_lift", {}).get(metric)
    return environment["lift"].get(metric) if further is None else further


def status_of(lift: Mapping[str, Any], way: int, tolerance: float) -> str:
    """Judge a lift with an interval."""
    worst, best = (lift["low"], lift["high"]) if way == FALL else (lift["high"], lift["low"])
    if way * worst <= tolerance:
        return HOLDS
    return MOVED if way * best > tolerance else NOT_SHOWN


def hopeless(lift: Mapping[str, Any], way: int, tolerance: float) -> bool:
    """Whether a guardrail that is not shown moved the wrong way, by more than allowed as it seems.

    Further sessions would almost surely end in "moved", and it blocks as it is. Ours.
    """
    best = lift["high"] if way == FALL else lift["low"]
    return way * best > 0.0 and way * lift["value"] > tolerance


def sessions_needed(lift: Mapping[str, Any], tolerance: float) -> int | None:
    """Sessions whose interval, around no difference, is as wide as the tolerance; ours.

    The half-width falls with the root of the number of sessions. None where no number would do.
    """
    half = (lift["high"] - lift["low"]) / 2.0
    if tolerance <= 0.0 or not math.isfinite(half):
        return None
    return max(lift["n"] + 1, math.ceil(lift["n"] * (half / tolerance) ** 2))


def _by_means(
    environment: Mapping[str, Any], metric: str, way: int, arms: tuple[str, str]
) -> tuple[str, str]:
    """Without an interval (say, the baseline never did it) any move the wrong way blocks."""
    name = environment["name"]
    ours, theirs = (mean_of(environment, arm, metric) for arm in arms)
    if ours is None or theirs is None:
        said = f"The guardrail {metric} could not be judged in {name}: no session counts."
        return MOVED, said
    moved = f"from {theirs:.4g} to {ours:.4g}, without an interval"
    if ours == theirs == 0.0:
        said = (
            f"The guardrail {metric} was never seen in {name}: {moved}, so that nothing is shown."
        )
        return NEVER_SEEN, said
    if way * (ours - theirs) > 0:
        verb = "fell" if way == FALL else "rose"
        return MOVED, f"The guardrail {metric} {verb} in {name} {moved}."
    return HOLDS, f"The guardrail {metric} holds in {name}: {moved}."


def mean_of(environment: Mapping[str, Any], arm: str, metric: str) -> float | None:
    """Mean of a metric in one arm, or None."""
    return environment["arms"].get(arm, {}).get(metric, {}).get("mean")
