"""The nearest items that may be candidates.

Symbols: `B` decisions, `n` slots to fill, `M` items found, `R` recent events.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from recomind.candidates.draws import recent_items
from recomind.candidates.withheld import Withheld
from recomind.data import among_rows
from recomind.types import SessionState

_DEEPER = 16  # a search is extended to at most this many times its size


class NearestItems(Protocol):
    """What the pool needs of `recomind.retrieval.Retrieval`."""

    num_items: int

    def nearest(self, state: SessionState, num: int) -> Tensor:
        """Item ids [B, num] int64, best first; -1 where there are fewer."""
        ...


class NearestOpen:
    """Skips recently seen and withheld items, and searches further to fill its slots.

    Args:
        retrieval: finds the nearest items.
        withheld: items that may not be candidates.
        num: `n`.
        exclude_recent: latest events whose items are skipped.
    """

    def __init__(
        self, retrieval: NearestItems, withheld: Withheld, num: int, exclude_recent: int
    ) -> None:
        self._retrieval, self._withheld = retrieval, withheld
        self._num, self._exclude_recent = num, exclude_recent

    def __call__(self, state: SessionState) -> Tensor:
        """The `n` best [B, n]; where there are fewer, the last slots hold -1 or skipped items.

        For sessions that fall short the search is repeated for twice as many items, up to 16
        times as many.
        """
        num_recent = min(self._exclude_recent, state.history_item_id.shape[1])
        num = min(self._num + num_recent, self._retrieval.num_items)
        deepest = min(_DEEPER * num, self._retrieval.num_items)
        best_Bn, short_B = self._best(state, num)
        rows = short_B.nonzero()[:, 0]
        while len(rows) and num < deepest:
            num = min(2 * num, deepest)
            best_Bn[rows], short_B = self._best(state[rows], num)
            rows = rows[short_B]
        return best_Bn

    def _best(self, state: SessionState, num: int) -> tuple[Tensor, Tensor]:
        """The best [B, n] of `num` found, and whether withheld items displaced others [B]."""
        found_BM = self._retrieval.nearest(state, num).to(state.step.device)
        recent_BR = recent_items(state, self._exclude_recent)
        passed_BM = among_rows(found_BM, recent_BR).to(torch.uint8)
        if self._withheld.nothing:
            short_B = torch.zeros(len(found_BM), dtype=torch.bool, device=found_BM.device)
        else:
            held_BM = self._withheld(found_BM) & (found_BM >= 0)
            passed_BM += 2 * held_BM
            there_BM = (passed_BM == 0) & (found_BM >= 0)
            more_B = found_BM[:, -1] >= 0  # the index has more items
            short_B = held_BM.any(1) & more_B & (there_BM.sum(1) < self._num)
        order_BM = passed_BM.argsort(dim=1, stable=True)
        return found_BM.gather(1, order_BM)[:, : self._num], short_B
