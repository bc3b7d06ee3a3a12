"""Models that this project did not train, and what their owners write to bring them.

Users like items whose first feature has the sign of their own first feature: `affinity` is the
truth, and each model below learns it from a few thousand answers drawn from it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recomind.adapters import RowBatch, StateBatch
from recomind.data import TableCatalogue
from recomind.streams import make_generator
from recomind.types import ItemFeatures, SessionState

torch.set_num_threads(1)

LOG_TASKS = ("watch_10s", "like", "hide")
NUM_ITEMS, LENGTH, HERE = 40, 5, "tests.adapters.models"


def catalogue() -> TableCatalogue:
    """Two snapshots whose dense content differs."""
    generator = make_generator(3)
    return TableCatalogue(
        torch.randn(2, NUM_ITEMS, 3, generator=generator),
        torch.randint(4, (NUM_ITEMS, 1), generator=generator),
        dense_names=("a", "b", "c"),
        categorical_names=("tag",),
        vocab_sizes=(4,),
    )


def states(num: int, seed: int = 0) -> SessionState:
    """Random states [num]; the first has no history at all."""
    generator = make_generator(seed)
    seen = torch.randint(LENGTH + 1, (num,), generator=generator)
    seen[:1] = 0
    mask = torch.arange(LENGTH) >= LENGTH - seen[:, None]
    feedback = torch.rand(num, LENGTH, len(LOG_TASKS), generator=generator) < 0.5
    return SessionState(
        user_id=torch.arange(num),
        user_features=torch.randn(num, 2, generator=generator),
        history_item_id=torch.randint(NUM_ITEMS, (num, LENGTH), generator=generator) * mask,
        history_feedback=feedback & mask[..., None],
        history_dwell_s=torch.rand(num, LENGTH, generator=generator) * 30 * mask,
        history_gap_s=torch.rand(num, LENGTH, generator=generator) * mask,
        history_mask=mask,
        gap_s=torch.rand(num, generator=generator) * (seen > 0),
        step=seen,
        batch_size=[num],
    )


def candidates(num: int, width: int) -> Tensor:
    return torch.randint(NUM_ITEMS, (num, width), generator=make_generator(9))


def affinity(batch: RowBatch) -> Tensor:
    """[R, 2] true logits of watch_10s and like."""
    match = batch.state.user_features[:, 0] * batch.items.dense[:, 0]
    return torch.stack([2.0 * match, match - 1.0], dim=1)


def rows(num: int, seed: int = 1) -> RowBatch:
    table, generator = catalogue(), make_generator(seed)
    item_id = torch.randint(NUM_ITEMS, (num,), generator=generator)
    items = table.features(item_id)
    return RowBatch(state=states(num, seed), catalogue=table, item_id=item_id, items=items)


def answers(batch: RowBatch, seed: int = 2) -> Tensor:
    """[R, 2] float32 labels drawn from the truth."""
    probability = affinity(batch).sigmoid()
    return (torch.rand(probability.shape, generator=make_generator(seed)) < probability).float()


def auc(scores: Tensor, labels: Tensor) -> float:
    """Share of (positive, negative) pairs in the right order."""
    positive, negative = scores[labels > 0], scores[labels == 0]
    return float((positive[:, None] > negative).float().mean())


def train(module: nn.Module, inputs: Any, num_steps: int = 150, column: slice = slice(0, 2)) -> Any:
    """Logits in, log-loss down: what the owner of a model did long ago."""
    batch = rows(3000)
    labels, arguments = answers(batch)[:, column], inputs(batch)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(num_steps):
        logits = module(*arguments) if isinstance(arguments, tuple) else module(arguments)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module


def crossed(batch: RowBatch) -> Tensor:
    """[R, 8] features of the flat models: user, item, product, and a mean over the history."""
    user, item = batch.state.user_features, batch.items.dense
    mask = batch.state.history_mask[..., None]
    seen = (batch.history.dense * mask).sum(1) / mask.sum(1).clamp(min=1)
    return torch.cat([user, item, user[:, :1] * item[:, :1], seen[:, :2]], dim=1)


class Flat(nn.Module):
    """Dropout, so that a model left in training mode would be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))

    def forward(self, features: Tensor) -> Tensor:
        return self.net(features)


class Halves(nn.Module):
    """A model that can be split, and can also be asked for flat rows; counts its state half."""

    num_states = 0

    def __init__(self) -> None:
        super().__init__()
        self.state, self.item = nn.Linear(4, 6), nn.Linear(3, 6)
        self.head = nn.Linear(6, 2)

    def encode(self, batch: StateBatch) -> Tensor:
        self.num_states += len(batch.state)
        mask = batch.state.history_mask[..., None]
        seen = (batch.history.dense * mask).sum(1)
        return self.state(torch.cat([batch.state.user_features, seen[:, :2]], dim=1))

    def score(self, encoding: Tensor, item_id: Tensor, items: ItemFeatures) -> Tensor:
        del item_id
        return self.head(encoding[:, None] * self.item(items.dense))

    def forward(self, batch: RowBatch) -> Tensor:
        items = ItemFeatures(dense=batch.items.dense[:, None], categorical=batch.items.categorical)
        return self.score(self.encode(batch), batch.item_id[:, None], items)[:, 0]


def whole(batch: RowBatch) -> RowBatch:
    return batch


def make_flat() -> nn.Module:
    return Flat()


def make_halves() -> nn.Module:
    return Halves()


def make_number() -> int:
    return 3


class Thing:
    """Neither a function nor a module."""


not_a_function = Thing()
