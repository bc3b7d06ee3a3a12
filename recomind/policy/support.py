"""Which candidates of a pool a policy may choose: the support constraint.

Symbols: `B` states, `K` candidates.

    allowed(a) = utility(a) >= rho max utility  and  ( g(a | s) >= tau max g  or  a is the best )

The first half (ours) asks the frozen ranker, the second one the logs: g is the density with which
the logging policies showed items (`recomind.policy.density`), and tau the threshold of
discrete BCQ (Fujimoto, Conti, Ghavamzadeh, Pineau: "Benchmarking Batch Deep Reinforcement Learning
Algorithms", arXiv:1910.01708, section 3). Both maxima are over the pool. The candidate of the
largest utility is always allowed, whatever its density: what is left where nothing else is, is the
ranker's own choice, and at step 0 the policy's first choice is the ranker's under any constraint.
A larger rho or tau never allows more. Ours.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recomind.types import SessionState


def support_mask(
    utility_BK: Tensor,
    mask_BK: Tensor,
    support_ratio: float,
    log_density_BK: Tensor | None = None,
    support_density: float = 0.0,
) -> Tensor:
    """Candidates [B, K] that may be chosen; in each row with a candidate there is one.

    With a best utility below 0 the bound is best / ratio, so that the constraint loosens as the
    ratio falls on either side of 0.

    Args:
        utility_BK: of the frozen ranker.
        mask_BK: False where the slot is padding.
        support_ratio: rho; 0 asks for no utility.
        log_density_BK: log g, up to a number for each row; not looked at where tau is 0.
        support_density: tau; 0 asks for no density.
    """
    by_density = log_density_BK is not None and support_density > 0.0
    if support_ratio <= 0.0 and not by_density:
        return mask_BK
    masked = utility_BK.masked_fill(~mask_BK, -torch.inf)
    best = masked.max(dim=1, keepdim=True).values
    allowed_BK = mask_BK
    if support_ratio > 0.0:
        bound = torch.where(best >= 0, best * support_ratio, best / support_ratio)
        allowed_BK = mask_BK & ((masked >= bound) | (masked == best))
    if log_density_BK is not None and by_density:
        dense_BK = _is_dense(log_density_BK, mask_BK, support_density)
        allowed_BK = allowed_BK & (dense_BK | (masked == best))
    return allowed_BK


def _is_dense(log_density_BK: Tensor, mask_BK: Tensor, support_density: float) -> Tensor:
    masked = log_density_BK.masked_fill(~mask_BK, -torch.inf)
    return masked >= masked.max(dim=1, keepdim=True).values + math.log(support_density)


class Supported(NamedTuple):
    """Values of the candidates of `B` states."""

    q_BK: Tensor
    utility_BK: Tensor  # of the frozen ranker
    allowed_BK: Tensor  # bool, False for padding


def supported_values(
    network: Any, state: SessionState, item_id: Tensor, mask_BK: Tensor, support_ratio: float
) -> Supported:
    """Q, utility and support of `item_id` [B, K]; each state is encoded once.

    Args:
        network: a `QNetwork`, a `RunningQ` of one, or anything with their `q_values`; the density
            is asked for where it has a model of it.
        state: [B].
        item_id: [B, K] int64.
        mask_BK: False where the slot is padding.
        support_ratio: rho; tau is the network's own, which its density was fitted for.
    """
    if getattr(network, "density", None) is None:
        q_BK, utility_BK = network.q_values(state, item_id)
        return Supported(q_BK, utility_BK, support_mask(utility_BK, mask_BK, support_ratio))
    encoding = network.encode_state(state)
    q_BK, utility_BK = network.score_encoded(encoding, item_id)
    log_density_BK, tau = network.log_density(encoding, item_id), network.config.support_density
    allowed_BK = support_mask(utility_BK, mask_BK, support_ratio, log_density_BK, tau)
    return Supported(q_BK, utility_BK, allowed_BK)
