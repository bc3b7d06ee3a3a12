"""Warnings about the simulators themselves, which no comparison of two arms shows.

Every arm may be promised too much alike: the simulator of the training said 1.8 times the truth
for the ranker and the policy both, the hold-out simulator .4 times, and both ranked nine policies
right. What can be seen without a world is that the two do not agree on the *level* of the ranker's
own value, and how many steps lie outside the logs (`recomind.evaluation.outside`). Ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recomind.evaluation.config import RANKER_IN_SUPPORT, GateConfig
from recomind.evaluation.guardrails import mean_of
from recomind.evaluation.presentation import figure

_OUTSIDE = 0.1  # share of an arm's simulated steps outside the logs that is worth a warning


def simulator_warnings(
    environments: Sequence[Mapping[str, Any]], config: GateConfig, policy_arm: str, baseline: str
) -> list[str]:
    """Sentences about simulators that disagree or extrapolate."""
    simulators = {each["kind"]: each for each in environments}
    found = [
        _outside(each, arm)
        for each in environments
        for arm in (policy_arm, baseline)
        if each.get("outside_share", {}).get(arm, 0.0) > _OUTSIDE
    ]
    pair = [simulators.get(kind) for kind in ("simulator", "holdout_simulator")]
    if pair[0] is not None and pair[1] is not None:
        found += _levels(pair[0], pair[1], config, baseline)
    return found


def _outside(environment: Mapping[str, Any], arm: str) -> str:
    share = environment["outside_share"][arm]
    return (
        f"{share:.0%} of the steps of {arm} in {environment['name']} lie where the logs have "
        "hardly been: what it is worth there is extrapolated."
    )


def _levels(
    training: Mapping[str, Any], holdout: Mapping[str, Any], config: GateConfig, baseline: str
) -> Iterator[str]:
    """Where the two simulators give the baseline values that cannot both be right."""
    metric = config.target_metric
    ours, theirs = (mean_of(each, baseline, metric) for each in (training, holdout))
    if not ours or not theirs or min(ours, theirs) <= 0.0:
        return
    ratio = max(ours, theirs) / min(ours, theirs)
    if ratio <= config.level_ratio:
        return
    inside = [mean_of(each, RANKER_IN_SUPPORT, metric) for each in (training, holdout)]
    agreed = ""
    if None not in inside:
        agreed = f" Inside the logs' support they say {figure(inside[0])} and {figure(inside[1])}."
    yield (
        f"{baseline} is worth {figure(ours)} {metric} in {training['name']} and {figure(theirs)} "
        f"in {holdout['name']}, {ratio:.1f} times apart: the logs do not tell what happens under "
        f"it, and a simulated lift is no forecast.{agreed}"
    )
