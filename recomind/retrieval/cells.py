"""The cells of an index: inverted lists, from which items are drawn without a query.

Symbols: `C` cells that hold an entry, `S` side items of a live index.
"""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np
import torch
from torch import Tensor

from recomind.data import among
from recomind.retrieval.lists import ListPart

_NOTHING = np.zeros(0, dtype=np.int64)


class Cells:
    """The cells of an index at one time, read without copies.

    An item that can be found is in exactly one cell. Hidden entries keep their place, so sizes
    count them too.

    Args:
        lists: item ids, cell by cell; empty cells are dropped.
        hidden: int64 ascending, entries of `lists` that are hidden.
        side: [S] int64, one more cell, without hidden entries.
        owner: keeps alive the memory that `lists` are views of.

    Attributes:
        sizes_C: [C] int64, entries of every cell.
    """

    def __init__(
        self,
        lists: Sequence[Sequence[int] | np.ndarray],
        hidden: np.ndarray = _NOTHING,
        side: np.ndarray = _NOTHING,
        owner: object = None,
    ) -> None:
        self._owner = owner
        self._lists = [found for found in (*lists, side) if len(found)]
        self._hidden = torch.from_numpy(hidden)
        self._num_hiding = len(self._lists) - bool(len(side))
        self.sizes_C = torch.tensor([len(found) for found in self._lists], dtype=torch.int64)

    def items(self, cell: Tensor, offset: Tensor) -> Tensor:
        """Ids [...] int64 at `offset` [...] of `cell` [...], both int64; -1 where hidden.

        The cost is one look-up for each entry, independent of the number of items.
        """
        lists = self._lists
        pairs = zip(cell.flatten().tolist(), offset.flatten().tolist(), strict=True)
        ids = np.fromiter((lists[c][o] for c, o in pairs), np.int64, cell.numel())
        found = torch.from_numpy(ids)
        if len(self._hidden):
            hides = among(found, self._hidden) & (cell.flatten() < self._num_hiding)
            found[hides] = -1
        return found.view(cell.shape)


def list_ids(index: faiss.IndexIVF) -> list[np.ndarray]:
    """Views [n] of the ids of every inverted list, valid as long as `index` exists."""
    part = ListPart(index)
    return [part.ids(number) for number in range(index.nlist)]
