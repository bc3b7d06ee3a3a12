"""Logging policies of a Gymnasium environment: what may have served before the ranker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from recomind.candidates import SubsetExploration
from recomind.policy import MixedExploration, RandomPolicy, ScoredPolicy
from recomind.types import Candidates, Catalogue, Policy, SessionState
from simulators.gym.reading import RandomSample, Reading

_PRIOR_SHOWS = 2.0  # imagined events at the average reward, added to those seen of an item


class SampledWorld(Protocol):
    """What a logging policy may go by: the part of `GymWorld` that was seen before any log."""

    sample: RandomSample
    reading: Reading
    catalogue: Catalogue
    reward_weights_H: Tensor


class SampledPopularity(ScoredPolicy):
    """Ranks items by their smoothed mean reward in the world's random sample."""

    def __init__(self, world: SampledWorld) -> None:
        super().__init__()
        sample, reading = world.sample, world.reading
        feedback_SH = torch.tensor([list(map(float, reading.feedback(m))) for m in sample.moments])
        reward_S = feedback_SH @ world.reward_weights_H
        shown_S = torch.tensor(sample.shown)
        num = world.catalogue.num_items
        count_N = torch.zeros(num).index_add(0, shown_S, torch.ones_like(reward_S))
        total_N = torch.zeros(num).index_add(0, shown_S, reward_S)
        self.rate_N = (total_N + _PRIOR_SHOWS * reward_S.mean()) / (count_N + _PRIOR_SHOWS)

    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """The item's rate [B, K]; every candidate is allowed."""
        return self.rate_N[candidates.item_id], candidates.mask


def _random(world: SampledWorld) -> Policy:
    del world
    return RandomPolicy()


def _epsilon(world: SampledWorld) -> Policy:
    """Half of the sessions explore 30 % of the time and half 10 %, with exact propensities."""
    more, less = (SubsetExploration(epsilon=e, subset_size=1) for e in (0.3, 0.1))
    return MixedExploration(SampledPopularity(world), more, less)


LOGGING: dict[str, Callable[[SampledWorld], Policy]] = {"random": _random, "epsilon": _epsilon}
