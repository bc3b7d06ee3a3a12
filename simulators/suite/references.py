"""Reference policies of the suite: they read a world's hidden state and bound what can be learned.

    score = expected reward of the next step + price x consequence

With price 0 it is the myopic reference. The look-ahead reference takes the world's own `price`,
the best of a fixed grid on sessions of their own (docs/adr/0012): a strong policy, not a proven
optimum, so the headroom between the two is a lower bound. Nothing is ever trained on them. Ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.policy import RandomPolicy, ScoredPolicy
from recomind.types import Candidates, Policy, SessionState
from simulators.suite.interface import Mechanism


class Reference(ScoredPolicy):
    """Maximises the priced score above.

    Args:
        world: the one in which it acts.
        price: rewards per unit of `Mechanism.consequence`.
    """

    def __init__(self, world: Mechanism, price: float) -> None:
        super().__init__()
        self.world, self.price = world, price

    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Priced scores [B, K]; every candidate of the pool is allowed."""
        world, item_BK = self.world, candidates.item_id
        present, order = world.present_users.sort()
        rows = order[torch.searchsorted(present, state.user_id)]
        hidden = {name: value[rows] for name, value in world.hidden.items()}
        scores = world.expected_reward(hidden, item_BK)
        if self.price:
            scores = scores + self.price * world.consequence(hidden, item_BK)
        return scores, candidates.mask


def references(world: Mechanism) -> dict[str, Policy]:
    """`random`, `myopic` and `look_ahead`, by name."""
    return {
        "random": RandomPolicy(),
        "myopic": Reference(world, 0.0),
        "look_ahead": Reference(world, world.price),
    }
