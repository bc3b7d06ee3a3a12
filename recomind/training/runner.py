"""The RLlib runner: a sampler that RLlib can place, call and restart."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    EPISODE_RETURN_MEAN,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    WEIGHTS_SEQ_NO,
)

from recomind.training.rows import SessionRows
from recomind.training.sampler import SessionSampler

ENVIRONMENT = "environment"


class SessionRunner(SessionSampler, EnvRunner, Checkpointable):
    """Simulates sessions of the network's policy for RLlib."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        EnvRunner.__init__(self, config=config, **kwargs)
        SessionSampler.__init__(
            self,
            config.session_problem,
            config.session_settings,
            seed=config.session_seed,
            index=self.worker_index or 0,
        )

    def sample(self, *, force_reset: bool = False, **kwargs: Any) -> list[SessionRows]:
        """`simulate`; RLlib's other arguments are ignored."""
        del kwargs
        rows = self.simulate(force_reset=force_reset)
        self._log(rows)
        return [rows]

    def _log(self, rows: SessionRows) -> None:
        steps, log = rows.num_valid, self.metrics.log_value
        log(NUM_ENV_STEPS_SAMPLED, steps, reduce="sum")
        log(NUM_ENV_STEPS_SAMPLED_LIFETIME, steps, reduce="lifetime_sum")
        log(NUM_EPISODES, len(rows.returns), reduce="sum")
        if rows.returns:
            log(EPISODE_RETURN_MEAN, float(np.mean(rows.returns)), reduce="mean")

    def receive(self, state: dict[str, Any]) -> int:
        """`set_state`; returns the number of the weights afterwards."""
        self.set_state(state)
        return self.weights_seq_no

    def get_metrics(self) -> Any:
        """Metrics since the last call; called by RLlib."""
        return self.metrics.reduce()

    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """Formal spaces: an action is an item; observations do not pass through RLlib."""
        items = int(self.environment.catalogue.num_items)
        spaces = (gym.spaces.Discrete(1), gym.spaces.Discrete(items))
        return {INPUT_ENV_SPACES: spaces, DEFAULT_MODULE_ID: spaces}

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Everything but the network, which the learner owns, so that sessions continue exactly."""
        del components, not_components, kwargs
        state: dict[str, Any] = {
            WEIGHTS_SEQ_NO: self.weights_seq_no,
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self._env_steps,
        }
        if self._state is not None:
            self.clear_cache()
            sessions = {"returns": self._returns_B} | self.environment.get_state()
            state[ENVIRONMENT] = {name: value.numpy() for name, value in sessions.items()}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the given parts; weights only if their number differs from its own."""
        self._env_steps = int(state.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, self._env_steps))
        number = int(state.get(WEIGHTS_SEQ_NO, -1))
        # Unequal, not smaller: a restored run may have older weights than its runners.
        news = number < 0 or number != self.weights_seq_no
        if COMPONENT_RL_MODULE in state and news and not self._shared:
            self._weights = state[COMPONENT_RL_MODULE][DEFAULT_MODULE_ID]["network"]
            self.weights_seq_no = number
        elif self._shared and number >= 0:
            self.weights_seq_no = number  # the learner's own network is the newest
        if ENVIRONMENT in state:
            self.clear_cache()
            sessions = {k: torch.from_numpy(np.array(v)) for k, v in state[ENVIRONMENT].items()}
            self._returns_B = sessions.pop("returns")
            self._state = self.environment.set_state(sessions, auto_reset=True)
            self._follows = True

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        """Arguments with which RLlib creates another one."""
        return (), {"config": self.config, "worker_index": self.worker_index}

    def assert_healthy(self) -> None:
        """Check that construction succeeded; called by RLlib."""
        assert self.environment is not None
