"""The temporal-difference loss.

Double DQN (van Hasselt, Guez, Silver: "Deep Reinforcement Learning with Double Q-learning",
AAAI 2016) with n-step returns, over the supported candidates of a pool only (ours).
`B` transitions, `K` candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.policy import support_mask
from recomind.training.target import values
from recomind.types import QFunction, Transition

METRICS = ("loss", "q_mean", "target_mean", "td_error_abs")


def td_loss(
    network: QFunction,
    target_network: QFunction,
    transition: Transition,
    *,
    support_ratio: float,
    weight_B: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean Huber loss (delta 1) and detached scalars worth watching.

    Beside the scalars named in `METRICS` it returns "td_error" [B].

    Args:
        network: learns, and picks the next item.
        target_network: values the item that was picked.
        transition: [B]
        support_ratio: rho; the next item is picked among candidates whose utility is at least
            rho times the best one's.
        weight_B: weight of each transition; equal where None.
    """
    shown_B1 = transition.item_id[:, None]
    q_B = values(network, transition.state, shown_B1, _column(transition.utility))[0][:, 0]
    target_B = td_target(network, target_network, transition, support_ratio=support_ratio)
    if weight_B is None:
        loss = torch.nn.functional.smooth_l1_loss(q_B, target_B)
    else:
        each_B = torch.nn.functional.smooth_l1_loss(q_B, target_B, reduction="none")
        loss = (weight_B * each_B).mean()
    error_B = (q_B - target_B).detach()
    return loss, {
        "loss": loss.detach(),
        "q_mean": q_B.detach().mean(),
        "target_mean": target_B.mean(),
        "td_error_abs": error_B.abs().mean(),
        "td_error": error_B,
    }


@torch.no_grad()
def td_target(
    network: QFunction, target_network: QFunction, transition: Transition, *, support_ratio: float
) -> Tensor:
    """[B] `r + discount * Q_target(s', a*)`, `a*` the network's best supported candidate at s'.

    An empty pool is worth 0.
    """
    pool, state = transition.next_candidates, transition.next_state
    q_BK, utility_BK = values(network, state, pool.item_id, transition.next_utility)
    allowed_BK = support_mask(utility_BK, pool.mask, support_ratio) & pool.mask
    best_B1 = q_BK.masked_fill(~allowed_BK, -torch.inf).argmax(1, keepdim=True)
    item_B1 = pool.item_id.gather(1, best_B1)
    # Only the chosen item is valued again: the target pass costs one candidate, not K.
    best_utility_B1 = utility_BK.gather(1, best_B1)
    value_B = values(target_network, state, item_B1, best_utility_B1)[0][:, 0]
    return transition.reward + transition.discount * value_B * pool.mask.any(1)


def _column(value_B: Tensor | None) -> Tensor | None:
    return None if value_B is None else value_B[:, None]
