"""The policy's values of items, as a query head is distilled from them.

Symbols: `B` states, `K` items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.policy.finite import require_finite_q
from recomind.policy.network import QNetwork, support_mask
from recomind.types import SessionState


class SupportedValues:
    """Q of the items inside the support of the ranker, -inf of the others.

    What is outside the support is never chosen, and Q was never trained on it. The support is
    that of the items asked for, as it is for a pool. Ours.
    """

    def __init__(self, network: QNetwork) -> None:
        self.network = network.eval()

    @torch.no_grad()
    def __call__(self, state: SessionState, item_id: Tensor) -> Tensor:
        """[B, K] float32 of `item_id` [B, K].

        Raises:
            RecomindError: a value is not finite.
        """
        q_BK, utility_BK = self.network.q_values(state, item_id)
        mask_BK = torch.ones_like(item_id, dtype=torch.bool)
        require_finite_q(q_BK, utility_BK, mask_BK, state.step)
        allowed_BK = support_mask(utility_BK, mask_BK, self.network.config.support_ratio)
        return q_BK.masked_fill(~allowed_BK, -torch.inf)
