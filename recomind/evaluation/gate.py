"""The release gate: may this policy serve?

Only an environment that the policy never trained in can say so. Where there are worlds, they
decide, all of them; without one, all hold-out simulators do. The simulator of the training and the
logs are shown in the report and decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recomind.evaluation.config import GateConfig
from recomind.evaluation.presentation import interval, percent

Verdict = tuple[bool, str]  # whether one condition holds, and the sentence that says why


def decide(
    environments: Sequence[Mapping[str, Any]],
    config: GateConfig,
    *,
    policy_arm: str = "policy",
    baseline_arm: str = "ranker",
) -> dict[str, Any]:
    """Release the policy, or not.

    Args:
        environments: entries of `environments` as in `report.json`.
        config: the target, its least lift, and the guardrails.
        policy_arm: the arm on trial.
        baseline_arm: what it must beat.

    Returns:
        `{released, reasons, target_metric, min_lift, decided_by, policy_arm, baseline_arm}`; the
        reasons are sentences, for either outcome: what failed where something failed, else what
        was shown.
    """
    deciding = deciding_environments(environments)
    verdicts = [
        verdict
        for environment in deciding
        for verdict in _judge(environment, config, policy_arm, baseline_arm)
    ]
    released = bool(deciding) and all(holds for holds, _ in verdicts)
    reasons = [sentence for holds, sentence in verdicts if released or not holds]
    if not deciding:
        reasons = [
            "No environment can decide: a release needs a world or a hold-out simulator, and the "
            "simulator that the policy trained in is never evidence."
        ]
    return {
        "released": released,
        "reasons": reasons,
        "target_metric": config.target_metric,
        "min_lift": config.min_lift,
        "decided_by": [environment["name"] for environment in deciding],
        "policy_arm": policy_arm,
        "baseline_arm": baseline_arm,
    }


def deciding_environments(environments: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All worlds; without a world, all hold-out simulators."""
    for kind in ("world", "holdout_simulator"):
        of_kind = [environment for environment in environments if environment["kind"] == kind]
        if of_kind:
            return of_kind
    return []


def _judge(
    environment: Mapping[str, Any], config: GateConfig, policy_arm: str, baseline_arm: str
) -> list[Verdict]:
    verdicts = [_judge_target(environment["lift"], environment["name"], config)]
    for arm, lifts in environment.get("lift_over", {}).items():
        verdicts.append(_judge_target(lifts, environment["name"], config, over=arm))
    for direction, metrics in ((-1, config.must_not_fall), (1, config.must_not_rise)):
        for metric in metrics:
            means = (
                _mean(environment, policy_arm, metric),
                _mean(environment, baseline_arm, metric),
            )
            verdicts.append(_judge_guardrail(environment, metric, direction, config, means))
    return verdicts


def _judge_target(
    lifts: Mapping[str, Any], name: str, config: GateConfig, over: str | None = None
) -> Verdict:
    """`over` names the baseline where it is not the usual one."""
    metric = config.target_metric
    beaten = "" if over is None else f" over {over}"
    lift = lifts.get(metric)
    if lift is None:
        return False, f"The target {metric}{beaten} was not measured in {name}."
    if lift["low"] is None:
        why = lift.get("reason") or "no interval"
        return False, f"The target {metric}{beaten} has no interval in {name}: {why}."
    shown = f"The lift of {metric}{beaten} in {name} is {interval(lift)}"
    if lift["low"] > config.min_lift:
        return True, f"{shown}, all of it above {percent(config.min_lift)}."
    return False, f"{shown}, which does not lie above {percent(config.min_lift)}."


def _judge_guardrail(
    environment: Mapping[str, Any],
    metric: str,
    wrong_way: int,
    config: GateConfig,
    means: tuple[float | None, float | None],
) -> Verdict:
    """`wrong_way` is -1 for a metric that may not fall and +1 for one that may not rise."""
    name, verb = environment["name"], "fell" if wrong_way < 0 else "rose"
    lift = environment["lift"].get(metric)
    if lift is None:
        return True, f"The guardrail {metric} does not exist in {name}."
    if lift["low"] is None:
        return _judge_by_means(metric, name, wrong_way, means)
    nearest = lift["high"] if wrong_way < 0 else lift["low"]
    if wrong_way * nearest > config.tolerance:
        allowed = f"more than {config.tolerance:.1%} is not allowed".replace("%", " %")
        return False, f"The guardrail {metric} {verb} in {name}: {interval(lift)}; {allowed}."
    return True, f"The guardrail {metric} holds in {name}: {interval(lift)}."


def _judge_by_means(
    metric: str, name: str, wrong_way: int, means: tuple[float | None, float | None]
) -> Verdict:
    """Without an interval (say, the baseline never did it) any move the wrong way blocks."""
    ours, theirs = means
    if ours is None or theirs is None:
        return False, f"The guardrail {metric} could not be judged in {name}: no session counts."
    moved = f"from {theirs:.4g} to {ours:.4g}, without an interval"
    if wrong_way * (ours - theirs) > 0:
        verb = "fell" if wrong_way < 0 else "rose"
        return False, f"The guardrail {metric} {verb} in {name} {moved}."
    return True, f"The guardrail {metric} holds in {name}: {moved}."


def _mean(environment: Mapping[str, Any], arm: str, metric: str) -> float | None:
    return environment["arms"].get(arm, {}).get(metric, {}).get("mean")
