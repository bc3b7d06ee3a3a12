"""The policy's values of items, from which a query head is distilled.

Symbols: `B` states, `K` items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.policy.finite import require_finite_q
from recomind.policy.network import QNetwork
from recomind.policy.support import supported_values
from recomind.types import SessionState


class SupportedValues:
    """Q of the items inside the support, -inf for the others.

    Items outside the support are never chosen, and Q was never trained on them. The support is
    computed among the given items, as for a pool. Ours.
    """

    def __init__(self, network: QNetwork) -> None:
        self.network = network.eval()

    @torch.no_grad()
    def __call__(self, state: SessionState, item_id: Tensor) -> Tensor:
        """[B, K] float32 of `item_id` [B, K].

        Raises:
            RecomindError: a value is not finite.
        """
        mask_BK = torch.ones_like(item_id, dtype=torch.bool)
        ratio = self.network.config.support_ratio
        found = supported_values(self.network, state, item_id, mask_BK, ratio)
        require_finite_q(found.q_BK, found.utility_BK, mask_BK, state.step)
        return found.q_BK.masked_fill(~found.allowed_BK, -torch.inf)
