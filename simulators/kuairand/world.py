"""A world fitted to KuaiRand's logs: a substitute for a truth that cannot be run.

It is the hold-out simulator of a `recomind run experiment=kuairand` (gradient-boosted trees on
users and days that no ranker saw), used as a world that logs can be collected in. A policy that
wins here has beaten a model of the users, not the users.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from recomind.artifacts import read_manifest
from recomind.candidates import SubsetExploration
from recomind.policy import ScoredPolicy
from recomind.simulation import Hidden, World, load_holdout
from recomind.streams import SessionStreams
from recomind.types import Candidates, Catalogue, Response, SessionState


class KuaiRandFeed(World):
    """Sessions of KuaiRand's users as modelled by the hold-out simulator.

    Args:
        folder: the `holdout_simulator` artifact of a finished run.
        reward_weights: task -> weight.
    """

    def __init__(self, *, folder: str, reward_weights: Mapping[str, float] | None = None) -> None:
        weights = dict(reward_weights or {"watch_10s": 1.0})
        self._fitted = load_holdout(Path(folder), weights)
        self.user_feature_names = list(read_manifest(Path(folder)).extra["user_feature_names"])
        super().__init__(
            catalogue=self._fitted.catalogue,
            tasks=self._fitted.tasks,
            reward_weights=weights,
            horizon=self._fitted.horizon,
            history_length=self._fitted.history_length,
        )

    def _begin(self, streams: SessionStreams) -> tuple[SessionState, Hidden]:
        state, hidden = self._fitted._begin(streams)
        state.history_gap_s[:, 0] = 0.0  # a log of this world does not hold the event before
        return state, hidden

    def _respond(
        self, state: SessionState, hidden: Hidden, item_id: Tensor, streams: SessionStreams
    ) -> tuple[Response, Hidden]:
        return self._fitted._respond(state, hidden, item_id, streams)

    def logging_policy(self) -> ScoredPolicy:
        """Popularity, with an exploration rate of .2."""
        return Popularity(self.catalogue, self.tasks[0])


class Popularity(ScoredPolicy):
    """Ranks by the item's smoothed rate of the first task."""

    def __init__(self, catalogue: Catalogue, task: str) -> None:
        super().__init__(SubsetExploration(epsilon=0.2, subset_size=1))
        self.catalogue = catalogue
        rates = [n for n, name in enumerate(catalogue.dense_names) if name == f"rate_{task}"]
        self.column = rates[0] if rates else 0

    @torch.no_grad()
    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """The item's rate [B, K]; every candidate is allowed."""
        dense = self.catalogue.features(candidates.item_id).dense
        return dense[..., self.column], candidates.mask
