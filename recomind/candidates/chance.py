"""Random draws from the whole catalogue, with the probability that they yield an item.

Symbols: `B` decisions, `n` draws for each, `N` items that are not blocked, `C` cells of the index.

    uniform       P(item in a draw) = 1 / N
    stratified    P(item in a draw) = 1 / (C size of the item's cell)

Stratified draws yield items of small cells more often, so that rare kinds of items are met as often
as common ones. A flat index is one cell; there both ways are equal, draw by draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from recomind.candidates.draws import log_miss, uniform_items
from recomind.candidates.withheld import Withheld
from recomind.retrieval.search import HasCells


@dataclass(kw_only=True, slots=True)
class Drawn:
    """The result of `n` draws for each of `B` decisions."""

    item_id: Tensor  # [B, n] int64; -1 where a draw was lost
    log_miss: Tensor  # [B, n] float64, exact log-probability that the n draws all miss the item
    log_miss_any: float  # the same for an item that was not drawn: exact, or a lower bound


class Draws(Protocol):
    """Draws `n` items for each decision."""

    def __call__(self, unit_Bn: Tensor) -> Drawn:
        """Items from fine uniforms [B, n] float64 in (0, 1), one each."""
        ...


class UniformDraws:
    """Uniform draws from all items that are not blocked."""

    def __init__(self, withheld: Withheld) -> None:
        self._withheld = withheld

    def __call__(self, unit_Bn: Tensor) -> Drawn:
        """See `Draws`."""
        num_open = self._withheld.num_open
        missed = log_miss(num_open, unit_Bn.shape[1])
        return Drawn(
            item_id=self._withheld.open_item(uniform_items(unit_Bn, num_open)),
            log_miss=torch.full_like(unit_Bn, missed),
            log_miss_any=missed,
        )


class StratifiedDraws:
    """Draws of a uniformly random cell, then of an item in it.

    A draw costs two look-ups, independent of N. A draw that meets a blocked item is lost.
    """

    def __init__(self, source: HasCells) -> None:
        self._source = source

    def __call__(self, unit_Bn: Tensor) -> Drawn:
        """See `Draws`; `log_miss_any` is for an item that is alone in the smallest cell."""
        cells, unit = self._source.cells(), unit_Bn.cpu()
        num_cells, num_draws = len(cells.sizes_C), unit.shape[1]
        if not num_cells:
            return Drawn(
                item_id=torch.full(unit_Bn.shape, -1, device=unit_Bn.device),
                log_miss=torch.zeros_like(unit_Bn),
                log_miss_any=0.0,
            )
        # One uniform has enough bits for both: the remainder after the cell selects its item.
        cell = uniform_items(unit, num_cells)
        size = cells.sizes_C[cell]
        item_id = cells.items(cell, uniform_items(unit * num_cells - cell, size))
        return Drawn(
            item_id=item_id.to(unit_Bn.device),
            log_miss=(num_draws * torch.log1p(-1.0 / (num_cells * size.double()))).to(unit_Bn),
            log_miss_any=log_miss(num_cells * int(cells.sizes_C.min()), num_draws),
        )
