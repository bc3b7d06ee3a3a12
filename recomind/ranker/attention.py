"""What candidates see of a history: sums of its events' values under sigmoid gates.

Symbols: `B` states, `K` candidates, `L` events, `O` old ones, `n` nearest of these, `D` width.

    gate(k, l) = sigmoid( sharpness * unit(k) . key(l) + bias(l) )         seen(k) = sum gate value
"""

from __future__ import annotations

import torch
from torch import Tensor

# Weights computed at once where there are no gradients: 1 MiB of float32 stays in a processor's
# cache between the two products, worth a third of their time at K = 100, L = 200.
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
        sharpness: a number.
    """
    if unit_BKD.shape[1] < keys_BLD.shape[1]:  # the sharpness goes to the fewer
        unit_BKD = unit_BKD * sharpness
    else:
        keys_BLD = keys_BLD * sharpness
    parts = (unit_BKD, keys_BLD, values_BLD, bias_BL)
    elsewhere = unit_BKD.device.type != "cpu"
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or elsewhere:
        return _summed(*parts)  # a graph that is exported must not know how many states there are
    num_rows = max(1, _BLOCK // (unit_BKD.shape[1] * keys_BLD.shape[1]))
    blocks = zip(*(part.split(num_rows) for part in parts), strict=True)
    seen = [_summed(*block) for block in blocks]
    return seen[0] if len(seen) == 1 else torch.cat(seen)


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
    """Sums [B, K, D] over the events that are nearest to each candidate; else as `gated_sum`.

    The gates of all others are zero, so that the sum is a product: gathering the values of the
    nearest, [B, K, n, D], takes three to thirteen times as long for up to some hundred old events.
    """
    if keys_BOD.shape[1] <= num_nearest:
        return gated_sum(unit_BKD, keys_BOD, values_BOD, bias_BO, sharpness)
    bias_BKO = bias_BO[:, None].expand(-1, unit_BKD.shape[1], -1)
    logits_BKO = torch.baddbmm(bias_BKO, unit_BKD, (keys_BOD * sharpness).mT)
    nearest = logits_BKO.topk(num_nearest, dim=2, sorted=False)
    closed_BKO = torch.zeros_like(logits_BKO)
    return closed_BKO.scatter(2, nearest.indices, nearest.values.sigmoid()) @ values_BOD
