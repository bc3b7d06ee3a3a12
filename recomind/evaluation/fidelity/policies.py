"""Policies of different quality, for judging whether a simulator ranks them right.

Symbols: `B` decisions, `K` candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recomind.candidates import SubsetExploration
from recomind.data import SessionDataset
from recomind.policy import RandomPolicy, RankerPolicy, ScoredPolicy
from recomind.rewards import task_weights
from recomind.simulation import World
from recomind.types import Candidates, Policy, Ranker, SessionState

_MIXTURES = (0.25, 0.5, 0.75)
_SMOOTHING = 20.0  # events of the average item that every item is given


def reference_policies(
    rankers: Sequence[Ranker],
    reward_weights: Mapping[str, float],
    dataset: SessionDataset,
    rows: Tensor,
    *,
    world: World | None = None,
    previous: Policy | None = None,
) -> dict[str, Policy]:
    """At least eight policies, from the reversed ranker to the best that there is.

    Args:
        rankers: the ensemble; its first member is "ranker".
        reward_weights: task -> weight, as in the reward.
        dataset: of the logs that items' mean rewards are counted in.
        rows: the events to count, of training days.
        world: brings the policy that logged, where there is one.
        previous: the trained policy of an earlier round.
    """
    first = list(rankers)[:1]
    policies: dict[str, Policy] = {
        "reversed_ranker": ReversedPolicy(first, reward_weights),
        "random": RandomPolicy(),
        "item_mean": ItemMeanPolicy(dataset, rows, reward_weights),
        "ranker": RankerPolicy(first, reward_weights),
        "ranker_ensemble": RankerPolicy(rankers, reward_weights),
    }
    for share in _MIXTURES:
        exploration = SubsetExploration(epsilon=share, subset_size=1)
        name = f"ranker_{round(100 * share)}_random"
        policies[name] = RankerPolicy(first, reward_weights, exploration)
    if world is not None:
        policies["logging"] = world.logging_policy()
    if previous is not None:
        policies["previous"] = previous
    return policies


class ReversedPolicy(RankerPolicy):
    """Chooses what the ranker likes least."""

    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Negated mean utility [B, K]; every candidate of the pool is allowed."""
        scores_BK, allowed_BK = super().scored(state, candidates)
        return -scores_BK, allowed_BK


class ItemMeanPolicy(ScoredPolicy):
    """Ranks by the mean reward that an item had in the log, whoever saw it.

    Means are smoothed by twenty events of the average item; an item that was never shown is an
    average one.
    """

    def __init__(
        self, dataset: SessionDataset, rows: Tensor, reward_weights: Mapping[str, float]
    ) -> None:
        super().__init__()
        reward_R = dataset.labels(rows) @ task_weights(dataset.tasks, reward_weights)
        self.average = float(reward_R.mean()) if len(rows) else 0.0
        self.item_id, group = dataset.item_id(rows).unique(return_inverse=True)
        total = torch.zeros(len(self.item_id)).index_add_(0, group, reward_R)
        num = torch.bincount(group, minlength=len(self.item_id)).float()
        self.mean = (total + _SMOOTHING * self.average) / (num + _SMOOTHING)

    @torch.no_grad()
    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Mean reward [B, K]; every candidate of the pool is allowed."""
        wanted_BK = candidates.item_id
        if len(self.item_id) == 0:
            return torch.zeros(wanted_BK.shape), candidates.mask
        place_BK = torch.searchsorted(self.item_id, wanted_BK).clamp(max=len(self.item_id) - 1)
        known_BK = self.item_id[place_BK] == wanted_BK
        return torch.where(known_BK, self.mean[place_BK], self.average), candidates.mask
