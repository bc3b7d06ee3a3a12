"""Who served before: three logging policies for every world of the suite.

| name | ranks by | explores (uniform in the pool) |
|---|---|---|
| `random` | nothing | 100 % |
| `weak` | what the average user likes | 30 % in half of the sessions, else 10 % |
| `ranker` | what the user's visible cohort likes | 10 % |

Both scores are true mean rewards of a rested session, so they stand for well-fitted models that
know nothing of the session: the first of the item alone, the second of user and item. All
propensities are exact.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recomind.candidates import UniformExploration
from recomind.errors import ConfigError, did_you_mean
from recomind.policy import MixedExploration, RandomPolicy, ScoredPolicy
from recomind.types import Candidates, Policy, SessionState
from simulators.suite.interface import Mechanism


class RestedReward(ScoredPolicy):
    """Ranks by the expected reward of a session's first step, for an imagined user.

    Args:
        world: whose users are imagined.
        by_cohort: the user has the taste of the visible cohort; otherwise that of the average user.
        epsilon: how often a random candidate is shown.
    """

    def __init__(self, world: Mechanism, *, by_cohort: bool, epsilon: float = 0.0) -> None:
        super().__init__(UniformExploration(epsilon))
        self.world, self.by_cohort = world, by_cohort

    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Expected rewards [B, K]; every candidate of the pool is allowed."""
        taste_BT = self.world.cohort_taste(state.user_id)
        if not self.by_cohort:
            taste_BT = torch.zeros_like(taste_BT)
        rested = self.world.start(taste_BT, torch.full((len(taste_BT), 4), 0.5))
        return self.world.expected_reward(rested, candidates.item_id), candidates.mask


def _random(world: Mechanism) -> Policy:
    del world
    return RandomPolicy()


def _weak(world: Mechanism) -> Policy:
    more, less = UniformExploration(0.3), UniformExploration(0.1)
    return MixedExploration(RestedReward(world, by_cohort=False), more, less)


def _ranker(world: Mechanism) -> Policy:
    return RestedReward(world, by_cohort=True, epsilon=0.1)


LOGS: dict[str, Callable[[Mechanism], Policy]] = {
    "random": _random,
    "weak": _weak,
    "ranker": _ranker,
}


def logging_policy(world: Mechanism) -> Policy:
    """The policy that `world.logging` names.

    Raises:
        ConfigError: there is no such policy.
    """
    if world.logging not in LOGS:
        raise ConfigError(
            "unknown logging policy of a suite world",
            got=world.logging,
            expected=list(LOGS),
            mend=did_you_mean(world.logging, LOGS),
        )
    return LOGS[world.logging](world)
