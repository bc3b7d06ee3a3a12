"""How far a faster way to score is from the network itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NUM_COMPARED = 64  # states


@dataclass(kw_only=True, slots=True)
class ScoreParity:
    """Two scorings of the same candidates of `B` states."""

    max_abs_difference: float  # of a Q or a utility, in units of reward; inf for what is no number
    share_moved: float  # share of candidates at another place of the order by Q
    share_other_best: float  # share of states whose best candidate by Q is another one


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
