"""Differences between a faster scoring and that of the network itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NUM_COMPARED = 64  # states


@dataclass(kw_only=True, slots=True)
class ScoreParity:
    """Two scorings of the same candidates of `B` states."""

    max_abs_difference: float  # in Q or utility, units of reward; inf where one is NaN
    share_moved: float  # share of candidates whose rank by Q changed
    share_other_best: float  # share of states whose best candidate by Q changed


def score_parity(ours: tuple[Tensor, Tensor], plain: tuple[Tensor, Tensor]) -> ScoreParity:
    """Compare pairs of Q [B, K] and utility [B, K]."""
    difference = torch.stack([(a - b).abs().max() for a, b in zip(ours, plain, strict=True)]).max()
    order_BK, plain_BK = (
        q_BK.argsort(dim=1, descending=True, stable=True) for q_BK, _ in (ours, plain)
    )
    moved_BK = order_BK != plain_BK
    return ScoreParity(
        max_abs_difference=float(difference.nan_to_num(torch.inf)),
        share_moved=float(moved_BK.float().mean()),
        share_other_best=float(moved_BK[:, 0].float().mean()),
    )
