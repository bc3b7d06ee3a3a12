"""The release gate: may this policy serve?

Only an environment that the policy never trained in can say so. Where there are worlds, they
decide, all of them; without one, all hold-out simulators do, by a margin for their own error. The
simulator of the training releases nothing, but without a world it may refuse: a policy that is not
better even there has nothing to show. Logs may veto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recomind.evaluation.config import RANDOM, GateConfig
from recomind.evaluation.gate_warnings import warnings_of
from recomind.evaluation.guardrails import Guardrail, judge_guardrails, mean_of
from recomind.evaluation.presentation import figure, interval, percent
from recomind.evaluation.seeds import Verdict, judge_seeds
from recomind.evaluation.segments import losers
from recomind.evaluation.trust import simulator_warnings

_LOGGED_METRIC = "reward_per_session"


def decide(
    environments: Sequence[Mapping[str, Any]],
    config: GateConfig,
    *,
    policy_arm: str = "policy",
    baseline_arm: str = "ranker",
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Release the policy, or not.

    Args:
        environments: entries of `environments` as in `report.json`.
        config: the target, its least lift, and the guardrails.
        policy_arm: the arm on trial.
        baseline_arm: what it must beat.
        confidence: with which a loss in a segment must be shown to block.

    Returns:
        `{released, reasons, target_metric, min_lift, decided_by, policy_arm, baseline_arm,
        guardrails, warnings}`; the reasons are sentences, for either outcome: what failed where
        something failed, else what was shown. Warnings block nothing.
    """
    deciding = deciding_environments(environments)
    verdicts: list[Verdict] = []
    guardrails: list[Guardrail] = []
    for environment in deciding:
        verdicts += _judge(environment, config, policy_arm, baseline_arm)
        verdicts += judge_seeds(environment, config, policy_arm, baseline_arm)
        found = judge_guardrails(environment, config, policy_arm, baseline_arm)
        verdicts += [(not each.blocks(config), each.sentence) for each in found]
        tolerance = config.tolerance_of(config.target_metric)
        verdicts += [(False, sentence) for sentence in losers(environment, tolerance, confidence)]
        guardrails += found
    verdicts += vetoes(environments, config)
    if any(environment["kind"] == "holdout_simulator" for environment in deciding):
        verdicts += _where_it_trained(environments, config)
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
        "guardrails": [guardrail.to_dict() for guardrail in guardrails],
        "warnings": [
            warning
            for environment in deciding
            for warning in warnings_of(environment, config, policy_arm, baseline_arm)
        ]
        + simulator_warnings(environments, config, policy_arm, baseline_arm),
    }


def deciding_environments(environments: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All worlds; without a world, all hold-out simulators."""
    for kind in ("world", "holdout_simulator"):
        of_kind = [environment for environment in environments if environment["kind"] == kind]
        if of_kind:
            return of_kind
    return []


def vetoes(environments: Sequence[Mapping[str, Any]], config: GateConfig) -> list[Verdict]:
    """What logs object to: an estimate releases no policy, but may stop one.

    Only whole sessions count: a policy may give up reward now for a longer session. Propensities
    that a model estimated inform and stop nothing.
    """
    found = []
    for environment in environments:
        if environment.get("propensities") == "estimated":
            continue
        lift = environment["lift"].get(_LOGGED_METRIC) if environment["kind"] == "logs" else None
        if lift and lift["high"] is not None and lift["high"] < -config.tolerance:
            sentence = f"{environment['name']} veto: {_LOGGED_METRIC} is {interval(lift)}."
            found.append((False, sentence[:1].upper() + sentence[1:]))
    return found


def _where_it_trained(
    environments: Sequence[Mapping[str, Any]], config: GateConfig
) -> list[Verdict]:
    """What is no evidence for a policy may still be evidence against it.

    Its training simulator flatters a policy, so that a lift which is not even shown there is none.
    Of the suite's policies that a hold-out simulator alone released wrongly, three in four were not
    shown better in the simulator that they trained in (ADR 16). Ours.
    """
    metric = config.target_metric
    found = []
    for environment in environments:
        if environment["kind"] != "simulator":
            continue
        for over, lifts in _over_baselines(environment):
            lift = lifts.get(metric)
            if lift is None or (lift["low"] is not None and lift["low"] > config.min_lift):
                continue
            known = "not known" if lift["low"] is None else interval(lift)
            sentence = (
                f"The lift of {metric}{over} is {known} in {environment['name']}, where the policy "
                f"trained: it is not shown above {percent(config.min_lift)} even there."
            )
            found.append((False, sentence))
    return found


def target_holds(environment: Mapping[str, Any], config: GateConfig) -> bool:
    """Whether the target's lift is shown over the baseline and over each further one."""
    return all(
        _judge_target(lifts, environment, config, over)[0]
        for over, lifts in _over_baselines(environment)
    )


def _judge(
    environment: Mapping[str, Any], config: GateConfig, policy_arm: str, baseline_arm: str
) -> list[Verdict]:
    """The target over every baseline, and what would make its lift worthless."""
    verdicts = [
        _judge_target(lifts, environment, config, over)
        for over, lifts in _over_baselines(environment)
    ]
    found = (
        _few_sessions(environment, config),
        _fewer_that_count(environment, config, policy_arm, baseline_arm),
        _below_chance(environment, config, policy_arm, baseline_arm),
    )
    return verdicts + [verdict for verdict in found if verdict is not None]


def _over_baselines(environment: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The table of lifts over every baseline, and how a further one is called in a sentence."""
    further = environment.get("lift_over", {}).items()
    return [("", environment["lift"]), *((f" over {arm}", lifts) for arm, lifts in further)]


def _judge_target(
    lifts: Mapping[str, Any], environment: Mapping[str, Any], config: GateConfig, over: str
) -> Verdict:
    """`over` names the baseline where it is not the usual one."""
    metric, name = config.target_metric, environment["name"]
    least = config.least_lift(environment["kind"])
    lift = lifts.get(metric)
    if lift is None:
        return False, f"The target {metric}{over} was not measured in {name}."
    if lift["low"] is None:
        why = lift.get("reason") or "no interval"
        return False, f"The target {metric}{over} has no interval in {name}: {why}."
    shown = f"The lift of {metric}{over} in {name} is {interval(lift)}"
    if lift["low"] > least:
        return True, f"{shown}, all of it above {percent(least)}."
    return False, f"{shown}, which does not lie above {percent(least)}."


def _few_sessions(environment: Mapping[str, Any], config: GateConfig) -> Verdict | None:
    """A handful of sessions that happen to agree have an interval of no width."""
    num = environment.get("num_sessions")
    if num is None or num >= config.min_sessions:
        return None
    return False, f"{environment['name']} has {num} sessions, too few for an interval to mean much."


def _fewer_that_count(
    environment: Mapping[str, Any], config: GateConfig, policy_arm: str, baseline_arm: str
) -> Verdict | None:
    """A mean over some sessions can be won by losing the others, such as the shorter ones."""
    metric, name = config.target_metric, environment["name"]
    counts = [
        environment["arms"].get(arm, {}).get(metric, {}).get("n")
        for arm in (policy_arm, baseline_arm)
    ]
    num = environment.get("num_sessions")
    if num is None or None in counts or counts[1] == num:
        return None
    ours, theirs = counts
    if ours >= theirs * (1.0 - config.tolerance_of(metric)):
        return None
    return False, (
        f"The target {metric} in {name} is a mean over fewer sessions than the baseline's "
        f"({ours:,} and {theirs:,} of {num:,}): what is gained may be the choice of sessions."
    )


def _below_chance(
    environment: Mapping[str, Any], config: GateConfig, policy_arm: str, baseline_arm: str
) -> Verdict | None:
    """A baseline below chance is easily beaten: then the policy must beat chance as well."""
    metric, name = config.target_metric, environment["name"]
    chance, baseline, policy = (
        mean_of(environment, arm, metric) for arm in (RANDOM, baseline_arm, policy_arm)
    )
    if chance is None or baseline is None or policy is None or baseline_arm == RANDOM:
        return None
    lift = environment.get("chance_lift", {}).get(metric)
    beaten = policy > chance if lift is None else (lift["low"] or 0.0) > config.min_lift
    if baseline >= chance or beaten or policy_arm == RANDOM:
        return None
    return False, (
        f"The baseline {baseline_arm} is below random in {name} ({figure(baseline)} and "
        f"{figure(chance)} {metric}), and the policy ({figure(policy)}) is not shown above random."
    )
