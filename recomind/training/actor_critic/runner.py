"""The runner of the actor-critic, which acts by the softmax."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from recomind.candidates import Exploration, SoftmaxExploration
from recomind.training.rows import KeptPool
from recomind.training.runner import SessionRunner


class SessionActorCriticRunner(SessionRunner):
    """Draws from the policy and keeps the whole pool, over which its probabilities are defined."""

    explores = False  # its policy is stochastic already

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self._softmax = SoftmaxExploration(self._settings.actor_critic.temperature)

    def _step(self, exploration: Exploration, returns: list[float]) -> dict[str, Tensor]:
        del exploration
        return super()._step(self._softmax, returns)

    def _kept(self, pool: KeptPool, allowed_BK: Tensor, uniforms_BK: Tensor) -> KeptPool:
        """The pool [B, K], and which candidates could be drawn."""
        del uniforms_BK
        return dataclasses.replace(pool, mask=allowed_BK)
