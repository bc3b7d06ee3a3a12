"""The item tower: what scoring needs of items, free of the state.

Symbols: `n` different items, `D` width, `M` hidden width, `H` tasks.

    item --> vector_D --> its place on the unit sphere of the attention, its part of the first layer

It is computed once for every item where a table of all of them is small enough, else for the
items met lately (`ItemCache`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from itertools import chain
from typing import Self

import torch
from torch import Tensor, nn

from recomind.devices import device_of
from recomind.ranker.config import RankerConfig
from recomind.ranker.encodings import ItemEncoding
from recomind.ranker.item_cache import ItemCache
from recomind.ranker.items import ItemEncoder, distinct_items
from recomind.types import Catalogue

_CHUNK = 65_536  # items of a table that are computed at once


class ItemTower(nn.Module):
    """The methods of the tower; a subclass makes its layers, in the order of its own."""

    catalogue: Catalogue
    config: RankerConfig
    items: ItemEncoder
    gate: nn.Linear
    item_part: nn.Linear
    wide_item: nn.Linear

    def __init__(self) -> None:
        super().__init__()
        # The tower's output for every item, where the catalogue is small enough.
        self.table: ItemEncoding | None = None
        # Where it is not: the output for the items met lately.
        self.item_cache: ItemCache | None = None
        # False while `gate` and `item_part` go on learning: only the table's vectors hold then.
        self.table_is_whole = True

    def precompute_items(self) -> Self:
        """Compute the tower of every item once, where there are few enough; then eval."""
        self.eval()
        self.table = self.item_cache = None
        if self.catalogue.num_items <= self.config.max_table_items:
            self.table = self._whole_table()
        else:
            self.item_cache = self._new_cache()
        return self

    def _new_cache(self) -> ItemCache:
        parts = (self.items, self.gate, self.item_part, self.wide_item)
        weights = [t for part in parts for t in chain(part.parameters(), part.buffers())]
        return ItemCache(self._tower, weights)

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> Self:
        """What `.to(device)` goes through; the table goes along, and a cache begins anew."""
        super()._apply(fn, recurse)
        if self.table is not None:
            self.table = self.table.mapped(fn)
        if self.item_cache is not None:
            self.item_cache = self._new_cache()
        return self

    @torch.no_grad()
    def _whole_table(self) -> ItemEncoding:
        device = device_of(self)
        chunks = torch.arange(self.catalogue.num_items, device=device).split(_CHUNK)
        encoded = [self.encode_items(chunk) for chunk in chunks]
        names = [field.name for field in fields(ItemEncoding)]
        return ItemEncoding(**{n: torch.cat([getattr(e, n) for e in encoded]) for n in names})

    def item_vectors(self, item_id: Tensor, snapshot: Tensor | None = None) -> Tensor:
        """Vectors [..., D]; from the table where there is one and the latest content is meant."""
        if (table := self._table_at(snapshot)) is not None:
            return nn.functional.embedding(item_id, table.vector)
        vector_nD, _, inverse = self._different(item_id, snapshot)
        return nn.functional.embedding(inverse, vector_nD)

    def encode_items(self, item_id: Tensor, snapshot: Tensor | None = None) -> ItemEncoding:
        """The tower of `item_id` [...]."""
        table = self._table_at(snapshot)
        if table is not None and self.table_is_whole:
            return table.take(item_id)
        if (cache := self._cache_at(snapshot)) is not None:
            return ItemEncoding(*cache.take(item_id))
        vector_nD, numbers, inverse = self._different(item_id, snapshot)
        return ItemEncoding(*self._tower_parts(vector_nD, numbers)).take(inverse)

    def _tower(self, item_id: Tensor) -> tuple[Tensor, ...]:
        return self._tower_parts(*self.items(item_id, self.catalogue))

    def _tower_parts(self, vector_nD: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
        """The parts of an `ItemEncoding` of items [n]."""
        unit_nD, part = self._unit(vector_nD), self.item_part(vector_nD)
        return vector_nD, unit_nD, part, self.wide_item(numbers)

    def _cache_at(self, snapshot: Tensor | None) -> ItemCache | None:
        """The cache, where there is one and it holds the content of `snapshot`."""
        fixed = snapshot is None and self.table_is_whole and not self.training
        return self.item_cache if fixed and not torch.is_grad_enabled() else None

    def _table_at(self, snapshot: Tensor | None) -> ItemEncoding | None:
        """The table, where there is one and it holds the content of `snapshot`."""
        return self.table if snapshot is None and not self.training else None

    def _different(self, item_id: Tensor, snapshot: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors [n, D] and encoded numbers of the different items, and each one's place [...]."""
        items = distinct_items(self.catalogue, item_id, snapshot)
        vector_nD, numbers = self.items.encode(items.item_id, items.content)
        return vector_nD, numbers, items.inverse

    def _history_items(self, item_id: Tensor, snapshot: Tensor | None) -> tuple[Tensor, Tensor]:
        """Vectors and places on the unit sphere, each [..., D], of items of the history."""
        if (table := self._table_at(snapshot)) is not None:
            vector = nn.functional.embedding(item_id, table.vector)
            if self.table_is_whole:
                return vector, nn.functional.embedding(item_id, table.unit)
            return vector, self._unit(vector)
        if (cache := self._cache_at(snapshot)) is not None:
            vector, unit = cache.take(item_id, 2)
            return vector, unit
        vector_nD, _, inverse = self._different(item_id, snapshot)
        unit_nD = self._unit(vector_nD)
        return nn.functional.embedding(inverse, vector_nD), nn.functional.embedding(
            inverse, unit_nD
        )

    def _unit(self, item_vectors: Tensor) -> Tensor:
        """Where an item stands on the unit sphere of the attention, [..., D]."""
        return nn.functional.normalize(self.gate(item_vectors), dim=-1)

    def tower_from_vectors(self, item_BKD: Tensor) -> ItemEncoding:
        """The tower from items' vectors, all but `wide`, which needs their content."""
        unit, part = self._unit(item_BKD), self.item_part(item_BKD)
        return ItemEncoding(item_BKD, unit, part, item_BKD)
