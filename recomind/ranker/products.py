"""Products that are added to a sum in place."""

from __future__ import annotations

import torch
from torch import Tensor


def add_product(sum_BM: Tensor, one_BD: Tensor, other_DM: Tensor) -> Tensor:
    """`sum_BM + one_BD @ other_DM`, in place but under autocast, which casts no such product."""
    if torch.is_autocast_enabled(sum_BM.device.type):
        return torch.addmm(sum_BM, one_BD, other_DM)
    return sum_BM.addmm_(one_BD, other_DM)
