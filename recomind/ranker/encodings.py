"""What scoring needs of states and of items, each made once.

Symbols: `B` states, `L` history events, `H` tasks, `D` width, `M` hidden width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from torch import Tensor, nn


@dataclass(slots=True)
class StateEncoding:
    """What scoring needs of `B` states."""

    hidden_BM: Tensor  # state part of the scoring network's first layer
    wide_BH: Tensor  # state part of the logits
    keys_BLD: Tensor
    values_BLD: Tensor
    bias_BL: Tensor  # recency bias of the attention; -inf where there is no event

    def repeat(self, num: int) -> StateEncoding:
        """Each state `num` times, without encoding it `num` times."""
        parts = (getattr(self, field.name) for field in fields(self))
        return StateEncoding(*(part.repeat_interleave(num, dim=0) for part in parts))


@dataclass(slots=True)
class ItemEncoding:
    """What scoring needs of items `[...]`: the output of the item tower, free of the state."""

    vector: Tensor  # [..., D]
    unit: Tensor  # [..., D], its place on the unit sphere of the gate
    part: Tensor  # [..., M], its part of the first layer
    wide: Tensor  # [..., H], its part of the logits

    def take(self, item_id: Tensor) -> ItemEncoding:
        """The encodings of `item_id`, where this one is a table of all items."""
        parts = (getattr(self, field.name) for field in fields(self))
        return ItemEncoding(*(nn.functional.embedding(item_id, part) for part in parts))

    def mapped(self, of: Callable[[Tensor], Tensor]) -> ItemEncoding:
        """`of` each part; this encoding itself, which may be shared, where `of` changes nothing."""
        parts = [getattr(self, field.name) for field in fields(self)]
        changed = [of(part) for part in parts]
        same = all(one is other for one, other in zip(parts, changed, strict=True))
        return self if same else ItemEncoding(*changed)

    def only(self) -> ItemEncoding:
        """Encodings [B, 1] of one candidate each as those of items [B]."""
        parts = (getattr(self, field.name) for field in fields(self))
        return ItemEncoding(*(part[:, 0] for part in parts))
