"""Pools around items that a log shows."""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.types import Candidates


def around(pool: Candidates, item_id: Tensor) -> Candidates:
    """`pool` [B, K] with `item_id` [B] in slot 0.

    A log holds what was shown, not the pool that it was chosen from. A pool that is drawn again
    stands for that one once it holds the shown item: where it did not draw the item itself, the
    item takes the place of the first candidate.
    """
    item_BK, mask_BK = pool.item_id.clone(), pool.mask.clone()
    same_BK = mask_BK & (item_BK == item_id[:, None])
    at_B = torch.where(same_BK.any(1), same_BK.int().argmax(1), 0)
    item_BK.scatter_(1, at_B[:, None], pool.item_id[:, :1])
    mask_BK.scatter_(1, at_B[:, None], pool.mask[:, :1])
    item_BK[:, 0], mask_BK[:, 0] = item_id, True
    return Candidates(
        item_id=item_BK,
        mask=mask_BK,
        log_propensity=pool.log_propensity,
        batch_size=[len(item_id)],
    )
