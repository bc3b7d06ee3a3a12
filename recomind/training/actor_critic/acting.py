"""The stochastic policy: softmax over the allowed candidates, and how it is sampled.

    pi(a | s, pool) = exp(q(s, a) / tau) / sum over the allowed b of exp(q(s, b) / tau)

with q = utility + residual. The residual starts as zero, so the initial policy is the softmax over
the ranker's utility, and its mode is the ranker's first choice. Ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.candidates import SubsetExploration
from recomind.candidates.draws import fine_uniforms


def log_policy(q_BK: Tensor, allowed_BK: Tensor, temperature: float) -> Tensor:
    """[B, K] log pi; a large negative number, not -inf, where a candidate is not allowed.

    `0 * -inf` would make a NaN of every sum over candidates and of its gradient.
    """
    lowest = torch.finfo(q_BK.dtype).min / 4
    return (q_BK / temperature).masked_fill(~allowed_BK, lowest).log_softmax(1)


class SoftmaxExploration(SubsetExploration):
    """Draws from the softmax, with the log-probability of what was drawn.

    Args:
        temperature: tau, in units of the scores.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__(epsilon=1.0, subset_size=1)
        self.temperature = temperature

    def choose(
        self,
        scores_BK: Tensor,
        allowed_BK: Tensor,
        uniforms_B4: Tensor,
        item_id_BK: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One allowed slot a row, by inverting the distribution function over the slots.

        Args:
            scores_BK: [B, K] float; only those of the allowed slots are looked at.
            allowed_BK: [B, K] bool, at least one True a row.
            uniforms_B4: [B, 4] in (0, 1): columns 1 and 2 make one fine uniform.
            item_id_BK: not needed: equal scores are equally likely.

        Returns:
            slot: [B] int64.
            log_propensity: [B] float32, log-probability of that slot given the pool.
        """
        del item_id_BK
        log_pi_BK = log_policy(scores_BK, allowed_BK, self.temperature)
        pi_BK = log_pi_BK.double().exp() * allowed_BK
        reached_BK = pi_BK.cumsum(1)
        # Against the total: rounding must not leave a uniform close to 1 beyond the last slot.
        drawn_B1 = fine_uniforms(uniforms_B4[:, 1:3])[:, :1] * reached_BK[:, -1:]
        slot_B = ((reached_BK > drawn_B1) & allowed_BK).int().argmax(1)
        return slot_B, log_pi_BK.gather(1, slot_B[:, None])[:, 0]
