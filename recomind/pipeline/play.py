"""Several arms in one environment, for the same users with the same luck."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from recomind.errors import ConfigError
from recomind.evaluation.metrics import summarise
from recomind.evaluation.rollout import SessionOutcomes, rollout
from recomind.evaluation.statistics import lifts
from recomind.simulation import BatchedSessions
from recomind.streams import draw_seeds, make_generator
from recomind.types import CandidateSource, Policy

Arms = Mapping[str, tuple[Policy, CandidateSource]]  # name -> who chooses, and from what


def play(
    environment: BatchedSessions,
    arms: Arms,
    seeds: Tensor,
    batch_size: int,
    on_arm: Callable[[str], None] | None = None,
) -> dict[str, SessionOutcomes]:
    """What each arm came to, on the sessions of `seeds` [S]; `on_arm` hears of each."""
    outcomes: dict[str, SessionOutcomes] = {}
    for name, (policy, candidates) in arms.items():
        outcomes[name] = rollout(environment, policy, candidates, seeds, batch_size)
        if on_arm is not None:
            on_arm(name)
    return outcomes


def evaluate(
    arms: Mapping[str, Policy],
    environment: BatchedSessions,
    candidates: CandidateSource,
    *,
    baseline: str = "ranker",
    num_sessions: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    batch_size: int = 2048,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Play arms of your own in one environment, and compare them session by session.

    Args:
        arms: name -> whoever chooses one item from a session's candidates.
        environment: a world or a simulator.
        candidates: where every arm's pools come from.
        baseline: arm that the others are compared with.
        num_sessions: that each arm plays, the same ones.
        seed: of the sessions.
        confidence: of the intervals.
        batch_size: sessions in lock-step.

    Returns:
        Arm -> metric -> `mean`, `standard_error` and `n`, and in all arms but the baseline `lift`:
        `value`, `low` and `high` of the lift over it, paired over sessions.

    Raises:
        ConfigError: the baseline is none of the arms, or there is no session to play.
    """
    if baseline not in arms:
        raise ConfigError(
            "the baseline is none of the arms",
            got=baseline,
            expected=sorted(arms),
            mend="name one of them in baseline=...",
        )
    seeds = draw_seeds(max(0, num_sessions), make_generator(seed))
    paired = {name: (policy, candidates) for name, policy in arms.items()}
    outcomes = play(environment, paired, seeds, batch_size)
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for name, outcome in outcomes.items():
        table[name] = {metric: dict(found) for metric, found in summarise(outcome).items()}
        if name != baseline:
            for metric, lift in lifts(outcome, outcomes[baseline], confidence).items():
                table[name][metric]["lift"] = lift.to_dict()
    return table
