"""Fitted Q evaluation: q of the target policy by least squares on the logs, step by step.

Le, Voloshin, Yue: "Batch Policy Learning under Constraints" (ICML 2019), for a finite horizon: the
last step is fitted to its rewards, each earlier one to reward plus the fitted value of the next.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recomind.evaluation.ope.logs import LoggedSessions, Target, check

Features = Callable[[int], Tensor]  # step -> [S, K, F] of its candidates


def fitted_q(
    logs: LoggedSessions, target: Target, features: Features, *, gamma: float = 1.0
) -> Tensor:
    """[S, T, K] q, linear in the features, with other weights at each step.

    Args:
        logs: of any policy; no propensities are used.
        target: its probabilities; `target.q` is not looked at.
        features: of a step's candidates; one step's at a time is in memory. One-hot features of
            state and action give the exact tabular solution.
        gamma: discount per step.

    Raises:
        SchemaError: as `check` does.
    """
    check(logs, Target(prob=target.prob))
    q_STK = torch.zeros(target.prob.shape, dtype=torch.float64)
    value_S = torch.zeros(len(logs.reward), dtype=torch.float64)
    for step in reversed(range(logs.num_steps)):
        alive_S = logs.mask[:, step]
        x_SKF = features(step).double()
        chosen = logs.slot[:, step].clamp(min=0)[:, None, None].expand(-1, 1, x_SKF.shape[2])
        x_RF = x_SKF.gather(1, chosen)[:, 0][alive_S]
        y_R = (logs.reward[:, step].double() + gamma * value_S)[alive_S]
        # Features that never occur together have no unique weights: the smallest are taken.
        weights_F = torch.linalg.lstsq(x_RF, y_R[:, None], driver="gelsd").solution[:, 0]
        q_STK[:, step] = x_SKF @ weights_F
        prob_SK = target.prob[:, step].double()
        value_S = torch.where(alive_S, (prob_SK * q_STK[:, step]).sum(1), 0.0)
    return q_STK
