"""Policies of several training seeds: each is judged, and one that was named before is released.

The best of several seeds would be chosen by luck, and its figures with it. Here the first seed is
the one that is released, whatever the others come to, so that nothing is chosen. The others say
whether the recipe wins or the seed did: the mean lift over all seeds must be shown to lie above
what the gate asks for, with the spread over seeds in its interval, and no seed may be shown to
break a guardrail. Ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recomind.evaluation.config import POLICY, SEED_ARM, GateConfig
from recomind.evaluation.guardrails import MOVED, judge_guardrails
from recomind.evaluation.presentation import interval, percent
from recomind.evaluation.rollout import SessionOutcomes
from recomind.evaluation.statistics import Lift, lifts, over_seeds_and_sessions

Verdict = tuple[bool, str]  # whether one condition holds, and the sentence that says why


def seed_lifts(
    outcomes: Mapping[str, SessionOutcomes], baseline: str, confidence: float
) -> dict[str, Any]:
    """What an entry of `environments` says of the seeds; nothing where there is one.

    Returns:
        `seed_lift`: arm -> metric -> lift of that seed's policy over the baseline; `over_seeds`:
        metric -> mean lift over all seeds, with their spread and that of sessions in its interval.
    """
    arms = [POLICY, *(arm for arm in outcomes if is_seed(arm))]
    if len(arms) == 1 or any(arm not in outcomes for arm in (POLICY, baseline)):
        return {}
    tables = {arm: lifts(outcomes[arm], outcomes[baseline], confidence) for arm in arms}
    metrics = [m for m in tables[POLICY] if all(m in table for table in tables.values())]
    return {
        "seed_lift": {arm: _plain(table) for arm, table in tables.items()},
        "over_seeds": _plain(
            {
                metric: over_seeds_and_sessions([t[metric] for t in tables.values()], confidence)
                for metric in metrics
            }
        ),
    }


def is_seed(arm: str) -> bool:
    """Whether an arm is the policy of a further seed."""
    return arm.startswith(SEED_ARM.format(""))


def judge_seeds(
    environment: Mapping[str, Any], config: GateConfig, policy_arm: str, baseline_arm: str
) -> list[Verdict]:
    """The spread over seeds, and what a further seed is shown to break; for the policy alone."""
    if config.seeds == 1 or policy_arm != POLICY:
        return []
    name, found = environment["name"], environment.get("seed_lift", {})
    if len(found) != config.seeds:
        there = len(found) or 1
        return [(False, f"{config.seeds} seeds were asked for, and {name} has played {there}.")]
    broken = [
        (False, f"Of {arm}: {guardrail.sentence}")
        for arm, table in found.items()
        if arm != POLICY
        for guardrail in judge_guardrails(
            {"name": name, "arms": environment["arms"], "lift": table}, config, arm, baseline_arm
        )
        if guardrail.status == MOVED
    ]
    return [_spread(environment, config), *broken]


def _spread(environment: Mapping[str, Any], config: GateConfig) -> Verdict:
    metric, name = config.target_metric, environment["name"]
    pooled = environment["over_seeds"].get(metric)
    if pooled is None or pooled["low"] is None:
        why = (pooled or {}).get("reason") or "it was not measured"
        return (
            False,
            f"The lift of {metric} over {config.seeds} seeds is not known in {name}: {why}.",
        )
    each = ", ".join(percent(table[metric]["value"]) for table in environment["seed_lift"].values())
    shown = (
        f"The mean lift of {metric} over {config.seeds} seeds of training in {name} is "
        f"{interval(pooled)} ({each}; the first is the policy)"
    )
    least = config.least_lift(environment["kind"])
    if pooled["low"] > least:
        return True, f"{shown}, all of it above {percent(least)}."
    return False, f"{shown}, which does not lie above {percent(least)}."


def _plain(table: Mapping[str, Lift]) -> dict[str, Any]:
    return {metric: lift.to_dict() for metric, lift in table.items()}
