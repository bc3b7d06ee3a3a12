"""What a simulator predicts for logged events, at the content that was current then.

Symbols: `R` rows of the log, `B` rows of a batch, `H` tasks.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recomind.data import SessionDataset
from recomind.simulation import FittedSessions, LearnedSimulator, Pessimism
from recomind.types import Catalogue, ItemFeatures, Ranker, SessionState

_BATCH_ROWS = 4096


@dataclass(kw_only=True, slots=True)
class LoggedPredictions:
    """A simulator's probabilities for logged events.

    `mean_*` are those of the gated models without pessimism, `sampled_*` what sessions are drawn
    from. Both are the same in a simulator that has no pessimism.
    """

    mean_RH: Tensor  # mean rates of the feedback
    sampled_RH: Tensor
    mean_hazard_R: Tensor  # mean hazard of leaving after the event
    sampled_hazard_R: Tensor


@torch.no_grad()
def predict_logged(
    simulator: FittedSessions, dataset: SessionDataset, rows: Tensor
) -> LoggedPredictions:
    """Probabilities for the events `rows` [R] of a log.

    A simulator itself knows the latest content only, which holds rates that were counted on the
    very days it is judged on; here every event is predicted from the content of its own day.
    """
    if len(rows) == 0:
        none_RH, none_R = torch.zeros(0, len(dataset.tasks)), torch.zeros(0)
        return LoggedPredictions(
            mean_RH=none_RH, sampled_RH=none_RH, mean_hazard_R=none_R, sampled_hazard_R=none_R
        )
    parts = [_predict(simulator, dataset, batch) for batch in rows.split(_BATCH_ROWS)]
    return LoggedPredictions(
        mean_RH=torch.cat([p.mean_RH for p in parts]),
        sampled_RH=torch.cat([p.sampled_RH for p in parts]),
        mean_hazard_R=torch.cat([p.mean_hazard_R for p in parts]),
        sampled_hazard_R=torch.cat([p.sampled_hazard_R for p in parts]),
    )


def _predict(simulator: FittedSessions, dataset: SessionDataset, rows: Tensor) -> LoggedPredictions:
    sampled = dated(simulator, dataset.snapshot(rows))
    mean = without_pessimism(sampled)
    before, after, item_id = dataset.state(rows), dataset.next_state(rows), dataset.item_id(rows)
    return LoggedPredictions(
        mean_RH=mean.probabilities(before, item_id),
        sampled_RH=sampled.probabilities(before, item_id),
        mean_hazard_R=mean.hazard(after),
        sampled_hazard_R=sampled.hazard(after),
    )


def without_pessimism(simulator: FittedSessions) -> FittedSessions:
    """The same models, sampled from their mean."""
    plain = copy.copy(simulator)
    if isinstance(plain, LearnedSimulator):
        plain.pessimism = Pessimism.none
    return plain


def dated(simulator: FittedSessions, snapshot_B: Tensor) -> FittedSessions:
    """The same simulator for `B` states whose items look as in the snapshots [B]."""
    then = copy.copy(simulator)
    then.catalogue = _DatedCatalogue(simulator.catalogue, snapshot_B)
    if isinstance(then, LearnedSimulator):
        rankers: list[Ranker] = [_DatedRanker(ranker, snapshot_B) for ranker in then.rankers]
        then.rankers = rankers
    return then


class _DatedCatalogue:
    """A catalogue that answers with the content of given days, one a state."""

    def __init__(self, catalogue: Catalogue, snapshot_B: Tensor) -> None:
        self._catalogue, self._snapshot_B = catalogue, snapshot_B
        self.num_items = catalogue.num_items
        self.dense_names, self.vocab_sizes = catalogue.dense_names, catalogue.vocab_sizes
        self.categorical_names = catalogue.categorical_names

    def features(self, item_id: Tensor, snapshot: Tensor | None = None) -> ItemFeatures:
        """Content of `item_id` [B, ...]."""
        if snapshot is None:
            shape = [-1] + [1] * (item_id.dim() - 1)
            snapshot = self._snapshot_B.reshape(shape).expand_as(item_id)
        return self._catalogue.features(item_id, snapshot)


class _DatedRanker:
    """A ranker that is always asked about given days, one a state."""

    def __init__(self, ranker: Ranker, snapshot_B: Tensor) -> None:
        self._ranker, self._snapshot_B, self.tasks = ranker, snapshot_B, ranker.tasks

    def encode_state(self, state: SessionState, snapshot: Tensor | None = None) -> Any:
        """The state [B] as of its own day."""
        return self._ranker.encode_state(state, self._snapshot_B)

    def score(self, encoding: Any, item_id: Tensor, snapshot: Tensor | None = None) -> Tensor:
        """Logits [B, K, H] of `item_id` [B, K] as of its own day."""
        return self._ranker.score(encoding, item_id, self._snapshot_B[:, None])
