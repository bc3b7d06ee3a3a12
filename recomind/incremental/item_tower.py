"""The item half of a trunk that learns: of all items, where that pays.

Symbols: `N` items, `K` candidates, `D` width, `M` hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recomind.ranker import SessionRanker
from recomind.ranker.encodings import ItemEncoding
from recomind.ranker.stamp import Stamp

_CHUNK = 4_096  # items whose halves stay in a processor's cache while they are computed
_WORTH = 4  # candidates for which the halves of the table cost as much as one item of the table


class TrunkItems:
    """Item halves of scoring under the trunk's weights of the moment.

    The table of all N items is computed once it would have paid for the candidates asked for under
    the same weights, or at once where it would have under the last ones: never more than twice the
    work of the better way. Item vectors come from the trunk's own table, without which nothing is
    kept.
    """

    def __init__(self, trunk: SessionRanker) -> None:
        self.trunk = trunk
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._stamp = Stamp()
        self._source: ItemEncoding | None = None
        self._table: ItemEncoding | None = None
        self._num_asked = self._num_asked_before = 0

    def take(self, item_id: Tensor, known: ItemEncoding | None = None) -> ItemEncoding:
        """The halves of `item_id` [B, K], `wide` apart.

        `known` are their halves out of the table of another ranker, whose vectors are the trunk's.
        """
        vectors = self.trunk.table
        if vectors is None:
            return self.trunk.half_of_vectors(self.trunk.item_vectors(item_id))
        self._look(vectors)
        self._num_asked += item_id.numel()
        if self._table is None:
            num_asked = max(self._num_asked, self._num_asked_before)
            if num_asked < _WORTH * len(vectors.vector):
                if known is not None:
                    return self.trunk.half_of_vectors(known.vector)
                return self.trunk.half_of_vectors(nn.functional.embedding(item_id, vectors.vector))
            self._table = self._computed(vectors.vector)
        return self._table.take(item_id)

    def _look(self, vectors: ItemEncoding) -> None:
        """Forget the table where weights or vectors are others."""
        parts = (self.trunk.gate, self.trunk.item_part)
        if vectors is not self._source or not self._stamp.is_of(parts):
            self._stamp, self._source, self._table = Stamp(parts), vectors, None
            self._num_asked_before, self._num_asked = self._num_asked, 0

    def _computed(self, vector_ND: Tensor) -> ItemEncoding:
        unit_ND = torch.empty_like(vector_ND)
        part_NM = vector_ND.new_empty(len(vector_ND), self.trunk.item_part.out_features)
        parts = (tensor.split(_CHUNK) for tensor in (vector_ND, unit_ND, part_NM))
        for vector_nD, unit_nD, part_nM in zip(*parts, strict=True):
            half = self.trunk.half_of_vectors(vector_nD)
            unit_nD.copy_(half.unit)
            part_nM.copy_(half.part)
        return ItemEncoding(vector_ND, unit_ND, part_NM, vector_ND)
