"""Importance weights in log space.

Products of a hundred ratios leave the range of a float64: they are kept as sums of logarithms, and
what is normalised is normalised before it is exponentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.evaluation.ope.logs import LoggedSessions, Target

_LARGEST_LOG = 700.0  # exp of it is still a float64; a weight beyond it is as good as infinite


def log_ratio(logs: LoggedSessions, target: Target) -> Tensor:
    """[S, T] log of target over logged probability of what was logged; 0 after the end."""
    prob_ST = target.prob.double().gather(2, logs.slot.clamp(min=0)[..., None])[..., 0]
    return torch.where(logs.mask, prob_ST.log() - logs.pscore.double().log(), 0.0)


def weight(log_weight: Tensor) -> Tensor:
    """exp, finite for any finite logarithm."""
    return log_weight.clamp(max=_LARGEST_LOG).exp()


def normalised(log_weight: Tensor, dim: int = 0) -> Tensor:
    """Weights with a mean of 1 along `dim`; 0 where all are 0."""
    num = log_weight.shape[dim]
    shares = torch.softmax(log_weight, dim) * num
    return torch.nan_to_num(shares, nan=0.0)  # softmax of nothing but -inf


def effective_size(log_weight: Tensor) -> float:
    """(sum w)^2 / sum w^2 of weights given as logarithms [n] (Kish, 1965); 0 where all are 0."""
    share = normalised(log_weight)
    squares = float((share * share).sum())
    return float(share.sum()) ** 2 / squares if squares > 0 else 0.0


def marginal_weights(
    logs: LoggedSessions, log_ratio_ST: Tensor, count_S: Tensor | None = None
) -> Tensor:
    """[S, T] d_target(s_t) / d_logging(s_t) times the ratio of step t.

    Marginalised importance sampling (Xie, Ma, Wang: "Towards Optimal Off-Policy Evaluation for
    Reinforcement Learning with Marginalized Importance Sampling", NeurIPS 2019, equation 6): the
    share of a state at step t + 1 under the target is the mean ratio-weighted share of sessions
    that arrive there. Its variance grows with a power of T, in place of exponentially, where
    sessions meet in the same states. What ends a session is a state too, without a reward.

    Args:
        logs: sessions with `state_id`.
        log_ratio_ST: of both policies at each step.
        count_S: [S] float64, how often each session counts, for derivatives; once where None.
    """
    assert logs.state_id is not None  # the caller has looked
    ratio_ST = weight(log_ratio_ST)
    counts_S = torch.ones_like(ratio_ST[:, 0]) if count_S is None else count_S
    carried_S = torch.ones(len(ratio_ST), dtype=torch.float64)
    columns = []
    for step in range(logs.num_steps):
        here_S = torch.where(logs.mask[:, step], logs.state_id[:, step], -1)
        _, index = here_S.unique(return_inverse=True)
        total = torch.zeros(int(index.max()) + 1, dtype=torch.float64)
        count = torch.zeros_like(total)
        total = total.index_add(0, index, counts_S * carried_S)
        count = count.index_add(0, index, counts_S)
        carried_S = (total / count)[index] * ratio_ST[:, step]
        columns.append(carried_S)
    return torch.stack(columns, 1)
