"""The place of a runner, which RLlib demands, where nothing is simulated."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable


class NoRunner(EnvRunner, Checkpointable):
    """Opens no environment and holds no sessions."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        EnvRunner.__init__(self, config=config, **kwargs)

    def share_network(self, network: Any) -> None:
        """Nobody acts here."""

    def sample(self, **kwargs: Any) -> list[Any]:
        """Nothing."""
        del kwargs
        return []

    def get_metrics(self) -> Any:
        """Called by RLlib."""
        return self.metrics.reduce()

    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """Formal spaces; called by RLlib."""
        spaces = (gym.spaces.Discrete(1), gym.spaces.Discrete(1))
        return {INPUT_ENV_SPACES: spaces, DEFAULT_MODULE_ID: spaces}

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Nothing."""
        del args, kwargs
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing to take over."""

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        """Arguments with which RLlib creates another one."""
        return (), {"config": self.config}

    def assert_healthy(self) -> None:
        """Called by RLlib."""
