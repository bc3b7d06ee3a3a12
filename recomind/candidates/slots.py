"""The order of a pool's slots by score, and checks of a pool.

Symbols: `B` decisions, `K` slots of a pool. Equal scores are ordered by ascending item id, so that
nothing depends on the order of a pool.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.errors import SchemaError

NUM_UNIFORMS = 4  # columns of the uniforms that a policy gets


def best_slot(scores_BK: Tensor, allowed_BK: Tensor, item_id_BK: Tensor | None = None) -> Tensor:
    """Slot [B] int64 of the best allowed candidate: the first column of `rank_slots`."""
    scores_BK = _mask_scores(scores_BK, allowed_BK)
    tied_BK = scores_BK == scores_BK.amax(1, keepdim=True)
    if item_id_BK is None:
        return tied_BK.int().argmax(1)
    return item_id_BK.masked_fill(~tied_BK, torch.iinfo(torch.int64).max).argmin(1)


def rank_slots(scores_BK: Tensor, allowed_BK: Tensor, item_id_BK: Tensor | None = None) -> Tensor:
    """Slots [B, K] int64 from best to worst, the allowed ones first; ties by item id."""
    scores_BK = _mask_scores(scores_BK, allowed_BK)
    if item_id_BK is None:
        return scores_BK.argsort(dim=1, descending=True, stable=True)
    by_id_BK = item_id_BK.argsort(dim=1, stable=True)
    order_BK = scores_BK.gather(1, by_id_BK).argsort(dim=1, descending=True, stable=True)
    return by_id_BK.gather(1, order_BK)


def ranks_of_slots(
    scores_BK: Tensor, allowed_BK: Tensor, item_id_BK: Tensor | None = None
) -> Tensor:
    """Rank [B, K] int64 of every slot, 1 for the best: the inverse of `rank_slots`."""
    slots_BK = rank_slots(scores_BK, allowed_BK, item_id_BK)
    rank_K = torch.arange(1, slots_BK.shape[1] + 1, device=slots_BK.device)
    return torch.empty_like(slots_BK).scatter(1, slots_BK, rank_K.expand_as(slots_BK))


def slot_of_rank(
    rank_B: Tensor, scores_BK: Tensor, allowed_BK: Tensor, item_id_BK: Tensor | None = None
) -> Tensor:
    """Slot [B] int64 of the candidate of `rank_B`, 1 for the best."""
    slot_B = best_slot(scores_BK, allowed_BK, item_id_BK)
    deep = (rank_B > 1).nonzero()[:, 0]  # only these few rows need sorting
    ids = None if item_id_BK is None else item_id_BK[deep]
    slots = rank_slots(scores_BK[deep], allowed_BK[deep], ids)
    slot_B[deep] = slots.gather(1, rank_B[deep, None] - 1)[:, 0]
    return slot_B


def _mask_scores(scores_BK: Tensor, allowed_BK: Tensor) -> Tensor:
    # The clamp keeps an allowed -inf above every slot that is not allowed.
    lowest = torch.finfo(scores_BK.dtype).min
    return scores_BK.clamp(min=lowest).masked_fill(~allowed_BK, -torch.inf)


def check_pool(scores: Tensor, allowed: Tensor, item_id: Tensor | None) -> None:
    """Raise a SchemaError unless scores, allowed slots and ids are [B, K] and every row is open."""
    if scores.dim() != 2 or allowed.shape != scores.shape:
        raise SchemaError(
            "scores and allowed slots must have one shape [B, K]",
            got=f"{tuple(scores.shape)} and {tuple(allowed.shape)}",
        )
    if item_id is not None and item_id.shape != scores.shape:
        raise SchemaError(
            "there must be one item id for each slot",
            got=tuple(item_id.shape),
            expected=tuple(scores.shape),
        )
    _check_rows(scores, allowed)


def check_uniforms(uniforms: Tensor, num_decisions: int) -> None:
    """Raise a SchemaError unless the uniforms are [B, 4]."""
    expected = (num_decisions, NUM_UNIFORMS)
    if uniforms.shape != expected:
        raise SchemaError(
            "the uniforms have another shape", got=tuple(uniforms.shape), expected=expected
        )


def _check_rows(scores: Tensor, allowed: Tensor) -> None:
    empty = (~allowed.any(1)).nonzero()[:, 0]
    if len(empty):
        raise SchemaError(
            "no candidate is allowed",
            got=f"{len(empty)} of {len(scores)} rows, the first is row {int(empty[0])}",
            expected="at least one allowed candidate a row",
            mend="check the pool's mask and the support constraint",
        )
    bad = (scores.isnan() & allowed).any(1).nonzero()[:, 0]
    if len(bad):
        raise SchemaError(
            "the score of an allowed candidate is NaN",
            got=f"{len(bad)} of {len(scores)} rows, the first is row {int(bad[0])}",
            expected="numbers",
            mend="check the model's weights and the state's features for NaN",
        )
