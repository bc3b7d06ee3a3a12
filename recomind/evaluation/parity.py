"""Step-0 parity: before training, the policy must rank exactly as the ranker does."""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.errors import SchemaError


def step0_parity(
    ranker_score_BK: Tensor, policy_score_BK: Tensor, mask_BK: Tensor
) -> dict[str, float | int]:
    """How far two scorings of the same candidates are apart.

    Args:
        ranker_score_BK: [B, K] the ranker's utility.
        policy_score_BK: [B, K] the Q values of the untrained policy.
        mask_BK: [B, K] bool, False where the slot is padding.

    Returns:
        `{max_rank_difference, max_score_difference, num_states}`; 0 positions is parity.

    Raises:
        SchemaError: shapes differ, or a score of a candidate is not a finite number.
    """
    shapes = {tuple(t.shape) for t in (ranker_score_BK, policy_score_BK, mask_BK)}
    if len(shapes) != 1 or ranker_score_BK.dim() != 2:
        raise SchemaError("scores for step-0 parity", got=sorted(shapes), expected="one [B, K]")
    pairs = torch.stack([ranker_score_BK, policy_score_BK]).double()
    if not bool(torch.isfinite(pairs[:, mask_BK]).all()):
        raise SchemaError("a candidate's score is not a finite number")
    pairs = pairs.masked_fill(~mask_BK, -torch.inf)
    rank = _rank(pairs)
    difference = (pairs[0] - pairs[1])[mask_BK].abs()
    moved = (rank[0] - rank[1])[mask_BK].abs()
    return {
        "max_rank_difference": int(moved.max()) if len(moved) else 0,
        "max_score_difference": float(difference.max()) if len(difference) else 0.0,
        "num_states": len(mask_BK),
    }


def _rank(score: Tensor) -> Tensor:
    """Position of each entry in descending order; equal scores keep the order of the slots."""
    return score.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
