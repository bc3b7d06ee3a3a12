"""The inputs of an external model.

Symbols: `B` states, `K` candidates, `R` flat rows, `L` history length, `H` the model's tasks.

    states  a b     candidates  [[5, 9, 2], [7, 5, 1]]
    rows    state    a a a b b b
            item_id  5 9 2 7 5 1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from recomind.types import Catalogue, ItemFeatures, SessionState


@dataclass(kw_only=True, slots=True)
class StateBatch:
    """`B` states, for a module that encodes them once."""

    state: SessionState  # [B]
    catalogue: Catalogue
    snapshot: Tensor | None = None  # [B] int64, of the catalogue; None for the latest

    @property
    def history(self) -> ItemFeatures:
        """Content [B, L, ...] of the history's items; padding has that of item 0: mask it."""
        item_id, snapshot = self.state.history_item_id, self.snapshot
        if snapshot is not None:
            snapshot = snapshot[:, None].expand_as(item_id)
        return self.catalogue.features(item_id, snapshot)


@dataclass(kw_only=True, slots=True)
class RowBatch(StateBatch):
    """`R` flat rows, one (state, candidate) pair each; `state` and `snapshot` are [R]."""

    item_id: Tensor  # [R] int64, the candidate
    items: ItemFeatures  # [R, ...], its content as of the row's snapshot


class Scorer(Protocol):
    """Asks an external model for logits; frozen, and without state of its own."""

    cost: str  # what one decision over K candidates costs, in words

    def encode(self, batch: StateBatch) -> Any:
        """What scoring needs of the states."""
        ...

    def score(
        self, encoding: Any, item_id: Tensor, catalogue: Catalogue, snapshot: Tensor | None
    ) -> Tensor:
        """Logits [B, K, H] before calibration of `item_id` [B, K]; `snapshot` is [B, K]."""
        ...
