"""Building blocks of random draws of items: fine uniforms, recent items, miss rates."""

from __future__ import annotations

import math

from torch import Tensor

from recomind.streams import hash_int64
from recomind.types import SessionState

_COARSE = 2.0**-23  # spacing of the streams' float32 uniforms, (k + 1/2) / 2^23


def fine_uniforms(uniforms: Tensor) -> Tensor:
    """Float64 uniforms [..., n] of 46 bits from neighbouring pairs of `uniforms` [..., 2 n].

    23 bits reach only 8.4 million items, and are too coarse for the tail of a large pool.
    """
    pairs = uniforms.double().unflatten(-1, (-1, 2))
    fine = pairs[..., 0] + (pairs[..., 1] - 0.5) * _COARSE
    return fine.clamp(_COARSE**2 / 2, 1.0 - _COARSE**2 / 2)


def item_uniforms(uniforms_B2: Tensor, item_id_BK: Tensor) -> Tensor:
    """Float64 uniforms [B, K] of 52 bits, never 0 or 1, one for each item of each row.

    A hash of the row's two uniforms and of the item id, so that an item gets the same value in any
    slot of the pool. 23 bits would tie among 100,000 candidates.
    """
    bits_B2 = (uniforms_B2.double() / _COARSE).long()
    row_B1 = hash_int64((bits_B2[:, :1] << 23) + bits_B2[:, 1:], 47)
    mixed_BK = hash_int64(row_B1 ^ hash_int64(item_id_BK, 48), 49)
    return ((mixed_BK >> 12 & (1 << 52) - 1).double() + 0.5) * 2.0**-52


def uniform_items(uniforms: Tensor, num_items: int | Tensor) -> Tensor:
    """Ids [...] int64 in 0 .. num_items - 1 from float64 `uniforms` [...] in (0, 1).

    `num_items` (an int, or [...] int64) must be far below 2^46, so that the product never rounds up
    to it.
    """
    return (uniforms * num_items).long()


def recent_items(state: SessionState, num: int) -> Tensor:
    """Ids [B, min(num, L)] int64 of the latest `num` events; -1 where there was none."""
    begin = max(0, state.history_item_id.shape[1] - num)
    mask = state.history_mask[:, begin:]
    return state.history_item_id[:, begin:].masked_fill(~mask, -1)


def log_miss(num_items: int, num_draws: int) -> float:
    """Log-probability that `num_draws` uniform draws of `num_items` all miss a given item."""
    if num_draws == 0:
        return 0.0
    return num_draws * math.log1p(-1.0 / num_items) if num_items > 1 else -math.inf
