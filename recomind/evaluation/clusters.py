"""Standard errors of means whose sessions are not independent: several are of one user.

With e_s the effect of session s minus their mean and E_u the sum over a user's sessions, the
variance of the mean is U / (U - 1) sum_u E_u^2 / S^2 (Cameron, Miller: "A Practitioner's Guide to
Cluster-Robust Inference", 2015, section 2). With a session a user it is the textbook one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def clustered_error(effect_S: Tensor, cluster_S: Tensor | None = None) -> float:
    """Standard error of the mean of `effect_S` [S].

    Args:
        effect_S: float64, one a session.
        cluster_S: [S] int64, the user of each; None where each session is its own.
    """
    centred_S = effect_S - effect_S.mean()
    if cluster_S is not None:
        ids, index = cluster_S.unique(return_inverse=True)
        sums = torch.zeros(len(ids), dtype=centred_S.dtype)
        centred_S = sums.index_add(0, index, centred_S)
    num = len(centred_S)
    if num < 2:
        return math.nan
    return math.sqrt(num / (num - 1) * float((centred_S * centred_S).sum())) / len(effect_S)


def num_clusters(effect_S: Tensor, cluster_S: Tensor | None = None) -> int:
    """Users; sessions where none are known."""
    return len(effect_S) if cluster_S is None else len(cluster_S.unique())
