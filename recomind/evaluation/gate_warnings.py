"""What a reader of a verdict should know, though it blocks nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recomind.evaluation.config import LOGGING, RANDOM, RANKER_IN_SUPPORT, GateConfig
from recomind.evaluation.guardrails import mean_of
from recomind.evaluation.presentation import figure, interval

_SMALL = 0.05  # lifts of a simulator below this have been wrong more often than right


def warnings_of(
    environment: Mapping[str, Any], config: GateConfig, policy_arm: str, baseline_arm: str
) -> list[str]:
    """Sentences about one deciding environment."""
    metric, name = config.target_metric, environment["name"]
    means = {
        arm: mean_of(environment, arm, metric)
        for arm in (policy_arm, baseline_arm, RANDOM, LOGGING)
    }
    found = []
    for worse, better, why in (
        (baseline_arm, RANDOM, "a lift over it says little"),
        (policy_arm, LOGGING, "what collected the logs serves users better"),
    ):
        low, high = means[worse], means[better]
        if low is not None and high is not None and low < high and worse != better:
            found.append(
                f"{worse} is below {better} in {name} ({figure(low)} and {figure(high)} {metric}): "
                f"{why}."
            )
    support = environment.get("support_lift", {}).get(metric)
    if support is not None and support["high"] is not None and support["high"] < 0.0:
        found.append(
            f"In {name} the support costs the ranker {interval(support)} of {metric}: what the "
            "logs cover is worse than what it would choose freely. Collect sessions that explore, "
            "or set policy.support_density=0 or a lower policy.support_ratio, where the simulators "
            "know less."
        )
    return found + _of_lift(environment, metric, policy_arm)


def _of_lift(environment: Mapping[str, Any], metric: str, policy_arm: str) -> list[str]:
    """How small the policy's lift is, and whether it is the support's or was learned."""
    name, found = environment["name"], list[str]()
    lift, learned = environment["lift"].get(metric), environment.get("rl_lift", {}).get(metric)
    won = lift is not None and (lift["low"] or 0.0) > 0.0
    untaught = learned is not None and learned["low"] == learned["high"] == 0.0
    if untaught:
        found.append(
            f"In {name} {policy_arm} does what {RANKER_IN_SUPPORT} does: training won nothing in "
            "its own simulator, and the policy was left at step 0 (training.compare_sessions)."
        )
    simulated = environment.get("kind") == "holdout_simulator"
    if simulated and won and lift is not None and (lift["value"] or 0.0) < _SMALL:
        found.append(
            f"In {name} the lift is {interval(lift)}. The interval is over sessions and knows "
            "nothing of the simulator's own error, which has turned such small lifts more often "
            "than not (experiments/suite). Show it to few users first."
        )
    if won and learned is not None and not untaught and (learned["low"] or 0.0) <= 0.0:
        lost = learned["high"] is not None and learned["high"] < 0.0
        found.append(
            f"In {name} the lift over {RANKER_IN_SUPPORT} is {interval(learned)}: "
            + (
                "the ranker is better than the policy once it keeps to the same support."
                if lost
                else "what is gained may be the support's, not what was learned."
            )
        )
    return found
