"""Questions about item ids."""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.errors import SchemaError


def check_range(index: Tensor, size: int, what: str) -> None:
    """Raise SchemaError unless every entry of `index` [...] int64 lies in [0, size)."""
    if index.numel() == 0:
        return
    low, high = (int(x) for x in torch.aminmax(index))
    if low < 0 or high >= size:
        raise SchemaError(
            f"{what} out of range", got=low if low < 0 else high, expected=f"in [0, {size})"
        )


def among(item_id: Tensor, sorted_n: Tensor) -> Tensor:
    """[...] bool: whether `item_id` [...] is one of `sorted_n` [n], which are in ascending order.

    `torch.isin` would sort all n each time.
    """
    if not len(sorted_n):
        return torch.zeros_like(item_id, dtype=torch.bool)
    sorted_n = sorted_n.to(item_id.device)
    place = torch.searchsorted(sorted_n, item_id).clamp(max=len(sorted_n) - 1)
    return sorted_n[place] == item_id


def among_rows(item_id_BK: Tensor, other_BR: Tensor) -> Tensor:
    """[B, K] bool: whether an item is one of `other_BR` [B, R], which may hold ids of any order.

    Comparing each with each costs K R; four times as much at K = 100, R = 20, and more from there.
    """
    if other_BR.shape[1] == 0:
        return torch.zeros_like(item_id_BK, dtype=torch.bool)
    ordered_BR = other_BR.sort(dim=1).values
    place_BK = torch.searchsorted(ordered_BR, item_id_BK.contiguous())
    return ordered_BR.gather(1, place_BK.clamp_(max=other_BR.shape[1] - 1)) == item_id_BK


def first_occurrence(item_id_BK: Tensor) -> Tensor:
    """[B, K] bool: True at the first slot of its row that holds this id."""
    ordered_BK, slot_BK = item_id_BK.sort(dim=1, stable=True)
    new_BK = torch.ones_like(ordered_BK, dtype=torch.bool)
    new_BK[:, 1:] = ordered_BK[:, 1:] != ordered_BK[:, :-1]
    return torch.zeros_like(new_BK).scatter(1, slot_BK, new_BK)
