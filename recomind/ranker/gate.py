"""What candidates see of a history: sums of its events' values under sigmoid gates.

Symbols: `B` states, `K` candidates, `L` events, `O` old ones, `n` nearest of these, `D` width.

    gate(k, l) = sigmoid( sharpness * unit(k) . key(l) + bias(l) )         seen(k) = sum gate value
"""

from __future__ import annotations

import torch
from torch import Tensor

# Gates that are had at once where no gradients are: 1 MiB of float32 stays in a processor's cache
# between the two products, which is a third of their time at K = 100, L = 200.
_BLOCK = 2**18


def gated_sum(
    unit_BKD: Tensor, keys_BLD: Tensor, values_BLD: Tensor, bias_BL: Tensor, sharpness: Tensor
) -> Tensor:
    """Sums [B, K, D] over all events.

    Args:
        unit_BKD: where the candidates stand on the unit sphere.
        keys_BLD: where the events stand.
        values_BLD: what is summed.
        bias_BL: -inf where there is no event.
        sharpness: of the gates, a number.
    """
    if unit_BKD.shape[1] < keys_BLD.shape[1]:  # the sharpness goes to the fewer
        unit_BKD = unit_BKD * sharpness
    else:
        keys_BLD = keys_BLD * sharpness
    num_rows = _rows_of_a_block(unit_BKD, keys_BLD)
    if num_rows >= len(unit_BKD):
        return _summed(unit_BKD, keys_BLD, values_BLD, bias_BL)
    blocks = zip(
        unit_BKD.split(num_rows),
        keys_BLD.split(num_rows),
        values_BLD.split(num_rows),
        bias_BL.split(num_rows),
        strict=True,
    )
    return torch.cat([_summed(*block) for block in blocks])


def _rows_of_a_block(unit_BKD: Tensor, keys_BLD: Tensor) -> int:
    whole = torch.is_grad_enabled() or torch.compiler.is_compiling() or unit_BKD.is_cuda
    return len(unit_BKD) if whole else max(1, _BLOCK // (unit_BKD.shape[1] * keys_BLD.shape[1]))


def _summed(unit_BKD: Tensor, keys_BLD: Tensor, values_BLD: Tensor, bias_BL: Tensor) -> Tensor:
    bias_BKL = bias_BL[:, None].expand(-1, unit_BKD.shape[1], -1)
    return torch.baddbmm(bias_BKL, unit_BKD, keys_BLD.mT).sigmoid_() @ values_BLD


def gated_sum_of_nearest(
    unit_BKD: Tensor,
    keys_BOD: Tensor,
    values_BOD: Tensor,
    bias_BO: Tensor,
    sharpness: Tensor,
    num_nearest: int,
) -> Tensor:
    """Sums [B, K, D] over the events that are nearest to each candidate; else as `gated_sum`."""
    bias_BKO = bias_BO[:, None].expand(-1, unit_BKD.shape[1], -1)
    logits_BKO = torch.baddbmm(bias_BKO, unit_BKD, (keys_BOD * sharpness).mT)
    nearest = logits_BKO.topk(min(num_nearest, keys_BOD.shape[1]), dim=2)
    values_BKOD = values_BOD[:, None].expand(-1, unit_BKD.shape[1], -1, -1)
    index = nearest.indices[..., None].expand(-1, -1, -1, values_BKOD.shape[3])
    gate_BKn1 = nearest.values.sigmoid()[..., None]
    return (values_BKOD.gather(2, index) * gate_BKn1).sum(dim=2)
