"""Candidate-subset exploration with its exact propensity.

Symbols: `B` decisions, `K` slots of a pool, `K_b` candidates allowed in row `b`, `m` size of the
subset, `r` rank of a candidate among the allowed (1 = best).

With probability 1 - epsilon the best allowed candidate is chosen. Otherwise a uniformly random
subset of `m` of the `K_b` allowed is drawn and its best is chosen. Rank r wins the subset when it
is drawn together with m - 1 of the K_b - r worse ones, so (ours, elementary counting)

    P(r | subset)        = C(K_b - r, m - 1) / C(K_b, m)
    P(rank > r | subset) = C(K_b - r, m) / C(K_b, m)

    K_b = 5, m = 2:   r             1     2     3     4     5
                      P(r|subset)  .4    .3    .2    .1    0

The subset itself is never drawn: inverting the second formula gives the rank from one number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.candidates.config import check_exploration
from recomind.candidates.draws import fine_uniforms
from recomind.candidates.interface import Exploration, log_certain, log_mixture
from recomind.candidates.slots import (
    best_slot,
    check_pool,
    check_uniforms,
    rank_slots,
    ranks_of_slots,
    slot_of_rank,
)

__all__ = [
    "GreedyChoice",
    "SubsetExploration",
    "UniformExploration",
    "best_slot",
    "log_propensity_of_rank",
    "rank_in_subset",
    "rank_slots",
]


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    """Log of the binomial coefficient C(n, k), float64; -inf where k < 0 or k > n."""
    n, k = n.double(), k.double()
    inside = (k >= 0) & (k <= n)
    n, k = torch.where(inside, n, 0.0), torch.where(inside, k, 0.0)
    value = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return torch.where(inside, value, -torch.inf)


def log_propensity_of_rank(
    rank: Tensor, num_allowed: Tensor, subset_size: int, epsilon: float
) -> Tensor:
    """Exact log-probability that the candidate of `rank` is chosen.

    `(1 - epsilon) [rank = 1] + epsilon C(K - rank, m - 1) / C(K, m)` with `m` no larger than `K`.

    Args:
        rank: [...] int64, 1 is the best of the allowed.
        num_allowed: [...] int64, `K`, broadcast against `rank`.
        subset_size: `m`.
        epsilon: probability of choosing inside a subset.

    Returns:
        [...] float32; -inf where the rank can never be chosen.
    """
    check_exploration(epsilon, subset_size)
    rank, num_allowed = torch.broadcast_tensors(rank, num_allowed)
    size = num_allowed.clamp(max=subset_size)
    inside = _log_choose(num_allowed - rank, size - 1) - _log_choose(num_allowed, size)
    inside = torch.where((rank >= 1) & (num_allowed >= 1), inside, -torch.inf)
    return log_mixture(inside, log_certain(rank == 1), epsilon)


def rank_in_subset(uniform_B: Tensor, num_allowed_B: Tensor, subset_size: int) -> Tensor:
    """Rank [B] int64 of the best of a random subset, by inverting P(rank > r).

    The smallest `r` with `P(rank > r) < uniform`, looked up in a table of `n! / (n - m)!`, n <= K:
    `C(n, m) < u C(K, m)` but for `m!`, which is on both sides. `uniform_B` [B] is float64, in
    (0, 1).
    """
    if len(num_allowed_B) == 0:
        return num_allowed_B
    n_N = torch.arange(
        int(num_allowed_B.max()) + 1, dtype=torch.float64, device=num_allowed_B.device
    )
    falling_N = torch.lgamma(n_N + 1.0) - torch.lgamma(n_N - subset_size + 1.0)  # -inf: n < m
    bound_B = uniform_B.double().log() + falling_N[num_allowed_B]
    below_B = torch.searchsorted(falling_N, bound_B)  # how many n are below the bound: m at least
    whole_B = num_allowed_B <= subset_size  # the best of all is in it
    return torch.where(whole_B, 1, num_allowed_B - below_B + 1).clamp_(min=1)


class SubsetExploration(Exploration):
    """Epsilon-greedy whose exploring half is greedy inside a random subset of the pool.

    Args:
        epsilon: probability of choosing inside a subset; 0 is greedy. May be changed between
            calls, as an annealing schedule does.
        subset_size: `m`; 1 explores uniformly, `K` or more is greedy.
    """

    def __init__(self, epsilon: float, subset_size: int) -> None:
        check_exploration(epsilon, subset_size)
        super().__init__(epsilon)
        self.subset_size = subset_size

    def choose(
        self,
        scores_BK: Tensor,
        allowed_BK: Tensor,
        uniforms_B4: Tensor,
        item_id_BK: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Exploration.choose`."""
        check_pool(scores_BK, allowed_BK, item_id_BK)
        check_uniforms(uniforms_B4, len(scores_BK))
        num_allowed_B = allowed_BK.sum(1)
        rank_B = torch.ones_like(num_allowed_B)
        explores = (uniforms_B4[:, 0] < self.epsilon).nonzero()[:, 0]
        fine = fine_uniforms(uniforms_B4[explores, 1:3])[:, 0]
        rank_B[explores] = rank_in_subset(fine, num_allowed_B[explores], self.subset_size)
        slot_B = slot_of_rank(rank_B, scores_BK, allowed_BK, item_id_BK)
        return slot_B, log_propensity_of_rank(rank_B, num_allowed_B, self.subset_size, self.epsilon)

    def log_propensities(
        self, scores_BK: Tensor, allowed_BK: Tensor, item_id_BK: Tensor | None = None
    ) -> Tensor:
        """See `Exploration.log_propensities`."""
        check_pool(scores_BK, allowed_BK, item_id_BK)
        rank_BK = ranks_of_slots(scores_BK, allowed_BK, item_id_BK)
        num_allowed_B1 = allowed_BK.sum(1, keepdim=True)
        return log_propensity_of_rank(rank_BK, num_allowed_B1, self.subset_size, self.epsilon)


class UniformExploration(SubsetExploration):
    """Epsilon-greedy: the subset is a single candidate."""

    def __init__(self, epsilon: float) -> None:
        super().__init__(epsilon=epsilon, subset_size=1)


class GreedyChoice(SubsetExploration):
    """The best allowed candidate, always; its log-propensity is 0."""

    def __init__(self) -> None:
        super().__init__(epsilon=0.0, subset_size=1)
