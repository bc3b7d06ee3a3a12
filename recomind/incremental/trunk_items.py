"""The item tower of a trunk that learns: for all items at once, where that pays.

Symbols: `N` items, `K` candidates, `D` width, `M` hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recomind.ranker import ItemEncoding, SessionRanker, Stamp

_CHUNK = 4_096  # items whose vectors stay in a processor's cache meanwhile
_WORTH = 4  # times the items: as many candidates cost as much as the tower of all items


class TrunkItems:
    """The item tower under the trunk's weights of the moment.

    The table of all N items is computed as soon as it would have paid for the candidates asked for
    under the same weights, or at once where it would have paid under the weights before: never
    more than twice the work of the better way. Item vectors come from the trunk's own table;
    without one nothing is cached.
    """

    def __init__(self, trunk: SessionRanker) -> None:
        self.trunk = trunk
        self.clear_cache()

    def clear_cache(self) -> None:
        """Compute all again."""
        self._stamp = Stamp()
        self._source: ItemEncoding | None = None
        self._table: ItemEncoding | None = None
        self._num_asked = self._num_asked_before = 0

    def take(self, item_id: Tensor, known: ItemEncoding | None = None) -> ItemEncoding:
        """The tower of `item_id` [B, K], all but `wide`.

        `known` is their tower in another ranker, whose vectors are the trunk's.
        """
        vectors = self.trunk.table
        if vectors is None:
            return self.trunk.tower_from_vectors(self.trunk.item_vectors(item_id))
        self._look(vectors)
        self._num_asked += item_id.numel()
        if self._table is None:
            num_asked = max(self._num_asked, self._num_asked_before)
            if num_asked < _WORTH * len(vectors.vector):
                if known is not None:
                    return self.trunk.tower_from_vectors(known.vector)
                return self.trunk.tower_from_vectors(
                    nn.functional.embedding(item_id, vectors.vector)
                )
            self._table = self._computed(vectors.vector)
        return self._table.take(item_id)

    def _look(self, vectors: ItemEncoding) -> None:
        """Drop the table where weights or vectors have changed."""
        parts = (self.trunk.gate, self.trunk.item_part)
        if vectors is not self._source or not self._stamp.is_of(parts):
            self._stamp, self._source, self._table = Stamp(parts), vectors, None
            self._num_asked_before, self._num_asked = self._num_asked, 0

    def _computed(self, vector_ND: Tensor) -> ItemEncoding:
        unit_ND = torch.empty_like(vector_ND)
        part_NM = vector_ND.new_empty(len(vector_ND), self.trunk.item_part.out_features)
        parts = (tensor.split(_CHUNK) for tensor in (vector_ND, unit_ND, part_NM))
        for vector_nD, unit_nD, part_nM in zip(*parts, strict=True):
            tower = self.trunk.tower_from_vectors(vector_nD)
            unit_nD.copy_(tower.unit)
            part_nM.copy_(tower.part)
        return ItemEncoding(vector_ND, unit_ND, part_NM, vector_ND)
