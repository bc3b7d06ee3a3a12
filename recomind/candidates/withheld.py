"""Items that are never candidates: blocked by the config, or withdrawn from the catalogue."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from recomind.data import among
from recomind.errors import ConfigError, SchemaError


@runtime_checkable
class Withdrawals(Protocol):
    """A catalogue whose items can be withdrawn, such as `recomind.data.CatalogueStore`."""

    def is_withdrawn(self, item_id: Tensor) -> Tensor:
        """[...] bool for `item_id` [...] int64 on the CPU."""
        ...


class Withheld:
    """Tells which items of 0 .. N - 1 may not be candidates.

    Blocked items are fixed, and draws skip them. Whether an item is withdrawn is asked each time,
    since that changes while sessions run.

    Args:
        num_items: `N`.
        blocked_item_id: int64 of any shape, in any order, repeated or not.
        withdrawn: the catalogue; None if nothing is ever withdrawn.

    Attributes:
        num_open: number of items that are not blocked.

    Raises:
        SchemaError: a blocked id is outside the catalogue.
        ConfigError: there are no items, or all are blocked.
    """

    def __init__(
        self, num_items: int, blocked_item_id: Tensor, withdrawn: Withdrawals | None = None
    ) -> None:
        if num_items < 1:
            raise ConfigError("the catalogue has no items", got=num_items, expected=">= 1")
        self.num_items, self._withdrawn = num_items, withdrawn
        self._blocked_b = distinct_items(blocked_item_id, num_items, "blocked items")
        self.num_open = num_items - len(self._blocked_b)
        if not self.num_open:
            raise ConfigError(
                "every item of the catalogue is blocked",
                got=f"{num_items} items",
                mend="shorten candidates.blocked",
            )
        self._skipped_b = self._blocked_b - torch.arange(len(self._blocked_b))

    @property
    def nothing(self) -> bool:
        """Whether no item is ever withheld."""
        return self._withdrawn is None and not len(self._blocked_b)

    def __call__(self, item_id: Tensor) -> Tensor:
        """[...] bool: whether `item_id` [...] is withheld, as is every id outside 0 .. N - 1.

        An index may know newer items than the catalogue of the pool.
        """
        outside = (item_id < 0) | (item_id >= self.num_items)
        if self.nothing:
            return outside
        inside = item_id.masked_fill(outside, 0)
        held = outside | among(inside, self._blocked_b)
        if self._withdrawn is not None and inside.numel():
            held |= self._withdrawn.is_withdrawn(inside.cpu()).to(item_id.device)
        return held

    def open_item(self, place: Tensor) -> Tensor:
        """Ids [...] int64 of the items at `place` [...] among those that are not blocked."""
        if not len(self._skipped_b):
            return place
        skipped_b = self._skipped_b.to(place.device)
        return place + torch.searchsorted(skipped_b, place, right=True)


def distinct_items(item_id: Tensor, num_items: int, what: str) -> Tensor:
    """Distinct ids in ascending order, [n] int64; a SchemaError unless in 0 .. num_items - 1."""
    found = item_id.long().unique()
    if len(found) and not 0 <= int(found[0]) <= int(found[-1]) < num_items:
        raise SchemaError(
            f"{what} outside the catalogue",
            got=f"{int(found[0])} .. {int(found[-1])}",
            expected=f"0 .. {num_items - 1}",
        )
    return found
