"""Softmax exploration, drawn by Gumbel noise that follows the items.

Symbols: `B` decisions, `K` slots of a pool, `tau` temperature.

    P(k) = exp(s_k / tau) / sum over the allowed j of exp(s_j / tau)

The slot with the largest `s_k / tau + g_k`, with `g_k` independent standard Gumbel noise, has
exactly this distribution (Gumbel, 1954; Maddison, Tarlow, Minka, NeurIPS 2014, section 2). The
noise is a hash of the decision's uniforms and of the item id: two uniforms give as many draws as
there are candidates, and an item gets the same noise in any slot of the pool. Ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.candidates.config import check_temperature
from recomind.candidates.draws import item_uniforms
from recomind.candidates.interface import Exploration, log_certain, log_mixture
from recomind.candidates.slots import best_slot, check_pool, check_uniforms


class SoftmaxExploration(Exploration):
    """Draws from the softmax of the scores with probability epsilon, else chooses the best.

    Args:
        temperature: tau, in units of the scores.
        epsilon: probability of drawing; 1 is the plain softmax policy.
    """

    def __init__(self, temperature: float, epsilon: float = 1.0) -> None:
        check_temperature(temperature)
        super().__init__(epsilon)
        self.temperature = temperature

    def choose(
        self,
        scores_BK: Tensor,
        allowed_BK: Tensor,
        uniforms_B4: Tensor,
        item_id_BK: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Exploration.choose`."""
        check_uniforms(uniforms_B4, len(allowed_BK))
        log_BK = self.log_propensities(scores_BK, allowed_BK, item_id_BK)
        slot_B = best_slot(scores_BK, allowed_BK, item_id_BK)
        drawn = (uniforms_B4[:, 0] < self.epsilon).nonzero()[:, 0]
        ids = None if item_id_BK is None else item_id_BK[drawn]
        noisy = self._logits(scores_BK[drawn], allowed_BK[drawn])
        noisy = noisy + _gumbel(uniforms_B4[drawn], ids, scores_BK.shape[1])
        slot_B[drawn] = best_slot(noisy, allowed_BK[drawn], ids)
        return slot_B, log_BK.gather(1, slot_B[:, None])[:, 0]

    def log_propensities(
        self, scores_BK: Tensor, allowed_BK: Tensor, item_id_BK: Tensor | None = None
    ) -> Tensor:
        """See `Exploration.log_propensities`."""
        check_pool(scores_BK, allowed_BK, item_id_BK)
        log_soft_BK = self._logits(scores_BK, allowed_BK).log_softmax(1)
        best_BK = torch.zeros_like(allowed_BK)
        best_BK.scatter_(1, best_slot(scores_BK, allowed_BK, item_id_BK)[:, None], True)
        return log_mixture(log_soft_BK, log_certain(best_BK), self.epsilon)

    def _logits(self, scores_BK: Tensor, allowed_BK: Tensor) -> Tensor:
        """Scores below the best allowed one in units of tau, float64; -inf where not allowed."""
        # Differences of infinite scores would be NaN.
        limit = torch.finfo(torch.float32).max
        scores_BK = scores_BK.double().clamp(-limit, limit).masked_fill(~allowed_BK, -torch.inf)
        return (scores_BK - scores_BK.amax(1, keepdim=True)) / self.temperature


def _gumbel(uniforms_B4: Tensor, item_id_BK: Tensor | None, num_slots: int) -> Tensor:
    """Standard Gumbel noise [B, K] float64 of every item, or slot where there are no ids."""
    if item_id_BK is None:
        slot_K = torch.arange(num_slots, device=uniforms_B4.device)
        item_id_BK = slot_K.expand(len(uniforms_B4), -1)
    return -(-item_uniforms(uniforms_B4[:, 1:3], item_id_BK).log()).log()
