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


def first_occurrence(item_id_BK: Tensor) -> Tensor:
    """[B, K] bool: True at the first slot of its row that holds this id."""
    ordered_BK, slot_BK = item_id_BK.sort(dim=1, stable=True)
    new_BK = torch.ones_like(ordered_BK, dtype=torch.bool)
    new_BK[:, 1:] = ordered_BK[:, 1:] != ordered_BK[:, :-1]
    return torch.zeros_like(new_BK).scatter(1, slot_BK, new_BK)
