"""Several arms in one environment, for the same users with the same luck."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from recomind.evaluation.rollout import SessionOutcomes, rollout
from recomind.simulation import BatchedSessions
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
