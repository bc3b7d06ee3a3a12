"""The stochastic policy: softmax over the allowed candidates, to be differentiated.

    pi(a | s, pool) = exp(q(s, a) / tau) / sum over the allowed b of exp(q(s, b) / tau)

with q = utility + residual. The residual starts as zero, so the initial policy is the softmax over
the ranker's utility, and its mode is the ranker's first choice. Ours.
`recomind.candidates.SoftmaxExploration` draws from it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_policy(q_BK: Tensor, allowed_BK: Tensor, temperature: float) -> Tensor:
    """[B, K] log pi; a large negative number, not -inf, where a candidate is not allowed.

    `0 * -inf` would turn every sum over candidates, and its gradient, into NaN.
    """
    lowest = torch.finfo(q_BK.dtype).min / 4
    return (q_BK / temperature).masked_fill(~allowed_BK, lowest).log_softmax(1)
