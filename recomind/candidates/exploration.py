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

The subset itself is never drawn: the rank comes from one number by inverting the second formula.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.candidates.config import check_exploration
from recomind.candidates.draws import fine_uniforms
from recomind.errors import SchemaError

NUM_UNIFORMS = 4  # columns of the uniforms that a policy is given; three are used here


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
    log_epsilon, log_rest = torch.tensor([epsilon, 1.0 - epsilon], dtype=torch.float64).log()
    greedy = torch.where(rank == 1, log_rest.to(inside.device), -torch.inf)
    total = torch.logaddexp(greedy, inside + log_epsilon.to(inside.device))
    return total.clamp(max=0.0).float()


def rank_in_subset(uniform_B: Tensor, num_allowed_B: Tensor, subset_size: int) -> Tensor:
    """Rank [B] int64 of the best of a random subset, by inverting P(rank > r).

    The smallest `r` with `P(rank > r) < uniform`, found by bisection: log2(K) rounds on [B].
    `uniform_B` [B] is float64 in (0, 1).
    """
    size = num_allowed_B.clamp(max=subset_size)
    log_all, log_u = _log_choose(num_allowed_B, size), uniform_B.double().log()
    low, high = torch.ones_like(num_allowed_B), num_allowed_B - size + 1
    for _ in range(max(1, int(num_allowed_B.max())).bit_length() if len(num_allowed_B) else 0):
        middle = (low + high) // 2
        reached = _log_choose(num_allowed_B - middle, size) - log_all < log_u
        next_low = torch.where(reached, low, (middle + 1).minimum(high))
        low, high = next_low, torch.where(reached, middle, high)
    return low


class SubsetExploration:
    """Epsilon-greedy whose exploring half is greedy inside a random subset of the pool.

    Args:
        epsilon: probability of choosing inside a subset; 0 is greedy. May be set anew between
            calls, as an annealing schedule does.
        subset_size: `m`; 1 explores uniformly, `K` or more is greedy.
    """

    def __init__(self, epsilon: float, subset_size: int) -> None:
        check_exploration(epsilon, subset_size)
        self.epsilon, self.subset_size = epsilon, subset_size

    def choose(
        self,
        scores_BK: Tensor,
        allowed_BK: Tensor,
        uniforms_B4: Tensor,
        item_id_BK: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Choose one allowed slot a row.

        Args:
            scores_BK: [B, K] float; only those of the allowed slots are looked at.
            allowed_BK: [B, K] bool, at least one True a row.
            uniforms_B4: [B, 4] in (0, 1): column 0 decides whether to explore, 1 and 2 the rank.
            item_id_BK: [B, K] int64. Equal scores are ranked by ascending item id, so that the
                choice does not depend on the order of the pool; by slot where it is None.

        Returns:
            slot: [B] int64.
            log_propensity: [B] float32, exact log-probability of that slot given the pool.

        Raises:
            SchemaError: shapes disagree, an allowed score is NaN, or a row allows nothing.
        """
        _check(scores_BK, allowed_BK, uniforms_B4, item_id_BK)
        num_allowed_B = allowed_BK.sum(1)
        fine = fine_uniforms(uniforms_B4[:, 1:3])[:, 0]
        rank_B = rank_in_subset(fine, num_allowed_B, self.subset_size)
        rank_B = torch.where(uniforms_B4[:, 0] < self.epsilon, rank_B, 1)
        slot_B = _slot_of_rank(rank_B, scores_BK, allowed_BK, item_id_BK)
        log_propensity_B = log_propensity_of_rank(
            rank_B, num_allowed_B, self.subset_size, self.epsilon
        )
        return slot_B, log_propensity_B


class GreedyChoice(SubsetExploration):
    """The best allowed candidate, always; its log-propensity is 0."""

    def __init__(self) -> None:
        super().__init__(epsilon=0.0, subset_size=1)


def _slot_of_rank(
    rank_B: Tensor, scores_BK: Tensor, allowed_BK: Tensor, item_id_BK: Tensor | None
) -> Tensor:
    slot_B = best_slot(scores_BK, allowed_BK, item_id_BK)
    deep = (rank_B > 1).nonzero()[:, 0]  # only these few rows are worth a sort
    ids = None if item_id_BK is None else item_id_BK[deep]
    slots = rank_slots(scores_BK[deep], allowed_BK[deep], ids)
    slot_B[deep] = slots.gather(1, rank_B[deep, None] - 1)[:, 0]
    return slot_B


def best_slot(scores_BK: Tensor, allowed_BK: Tensor, item_id_BK: Tensor | None = None) -> Tensor:
    """Slot [B] int64 of the best allowed candidate: the first column of `rank_slots`."""
    scores_BK = _mask_scores(scores_BK, allowed_BK)
    tied_BK = scores_BK == scores_BK.amax(1, keepdim=True)
    if item_id_BK is None:
        return tied_BK.int().argmax(1)
    return item_id_BK.masked_fill(~tied_BK, torch.iinfo(torch.int64).max).argmin(1)


def _mask_scores(scores_BK: Tensor, allowed_BK: Tensor) -> Tensor:
    # The clamp keeps an allowed -inf above every slot that is not allowed.
    lowest = torch.finfo(scores_BK.dtype).min
    return scores_BK.clamp(min=lowest).masked_fill(~allowed_BK, -torch.inf)


def rank_slots(scores_BK: Tensor, allowed_BK: Tensor, item_id_BK: Tensor | None = None) -> Tensor:
    """Slots [B, K] int64 from best to worst, the allowed ones first; ties by item id."""
    scores_BK = _mask_scores(scores_BK, allowed_BK)
    if item_id_BK is None:
        return scores_BK.argsort(dim=1, descending=True, stable=True)
    by_id_BK = item_id_BK.argsort(dim=1, stable=True)
    order_BK = scores_BK.gather(1, by_id_BK).argsort(dim=1, descending=True, stable=True)
    return by_id_BK.gather(1, order_BK)


def _check(scores: Tensor, allowed: Tensor, uniforms: Tensor, item_id: Tensor | None) -> None:
    if scores.dim() != 2 or allowed.shape != scores.shape:
        raise SchemaError(
            "scores and allowed slots must have one shape [B, K]",
            got=f"{tuple(scores.shape)} and {tuple(allowed.shape)}",
        )
    if item_id is not None and item_id.shape != scores.shape:
        raise SchemaError(
            "one item id a slot", got=tuple(item_id.shape), expected=tuple(scores.shape)
        )
    if uniforms.shape != (len(scores), NUM_UNIFORMS):
        raise SchemaError(
            "uniforms of another shape",
            got=tuple(uniforms.shape),
            expected=(len(scores), NUM_UNIFORMS),
        )
    _check_rows(scores, allowed)


def _check_rows(scores: Tensor, allowed: Tensor) -> None:
    empty = (~allowed.any(1)).nonzero()[:, 0]
    if len(empty):
        raise SchemaError(
            "no candidate is allowed",
            got=f"{len(empty)} of {len(scores)} rows, the first is row {int(empty[0])}",
            expected="at least one allowed candidate a row",
            mend="check the pool's mask and the support constraint",
        )
    bad = (scores.isnan() & allowed).any(1).nonzero()[:, 0]
    if len(bad):
        raise SchemaError(
            "score of an allowed candidate is NaN",
            got=f"{len(bad)} of {len(scores)} rows, the first is row {int(bad[0])}",
            expected="numbers",
            mend="look for NaN in the model's weights or in the state's features",
        )
