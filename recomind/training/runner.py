"""The RLlib runner: sessions in lock-step, acted on in one batch.

`B` sessions, `K` candidates of a pool, `S` candidates kept for the maximum at s'.
"""

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
from torch import Tensor, nn

from recomind.candidates import SubsetExploration
from recomind.policy import decide, require_finite_q, support_mask
from recomind.simulation.environment import LANE_ACT
from recomind.training.config import TrainingConfig
from recomind.training.problem import SessionProblem
from recomind.training.rl_module import load_trainable
from recomind.training.rows import SessionRows, pack_step
from recomind.training.seeding import LANE_SESSIONS, run_generator
from recomind.types import Candidates, SessionState

ENVIRONMENT = "environment"


class SessionRunner(EnvRunner, Checkpointable):
    """Simulates sessions of the network's policy."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self._problem: SessionProblem = config.session_problem
        self._settings: TrainingConfig = config.session_settings
        self._index = self.worker_index or 0
        self.environment = self._problem.environment()
        self._source = self._problem.candidates()
        self._network: nn.Module | None = None
        self._weights: dict[str, Any] | None = None  # waiting for the network to be built
        self._shared = False
        self.weights_seq_no = -1
        self._env_steps = 0  # of all runners, as the algorithm last told
        self._state: SessionState | None = None
        self._returns_B = torch.zeros(0)
        self._follows = False

    @property
    def network(self) -> nn.Module:
        """Built at first use, so that a runner beside the learner never builds its own."""
        if self._network is None:
            self._network = self._problem.network().eval()
        if self._weights is not None:
            load_trainable(self._network, self._weights)
            self._weights = None
        return self._network

    def share_network(self, network: nn.Module) -> None:
        """Act with the learner's own network: no copy, and never an outdated one."""
        self._network, self._weights, self._shared = network, None, True

    @torch.no_grad()
    def sample(self, *, force_reset: bool = False, **kwargs: Any) -> list[SessionRows]:
        """Simulate `rollout_length` steps of every session; RLlib's other wishes are ignored."""
        del kwargs
        if self._state is None or force_reset:
            self._begin()
        exploration = SubsetExploration(
            epsilon=self._settings.epsilon(self._env_steps), subset_size=self._settings.subset_size
        )
        returns: list[float] = []
        steps = [self._step(exploration, returns) for _ in range(self._settings.rollout_length)]
        columns = {name: torch.stack([step[name] for step in steps]) for name in steps[0]}
        rows = SessionRows(
            columns=columns,
            num_tasks=len(self.environment.tasks),
            runner=self._index,
            follows=self._follows,
            num_valid=int(columns["valid"].sum()),
            returns=returns,
        )
        self._follows = True
        self._log(rows)
        return [rows]

    def _begin(self) -> None:
        # A runner that replaces a dead one must not repeat the sessions of its predecessor.
        seed: int = self.config.session_seed  # type: ignore[attr-defined]
        generator = run_generator(seed, LANE_SESSIONS, self._index, self._env_steps)
        num = self._settings.num_sessions
        self._state = self.environment.reset(num, generator, auto_reset=True)
        self._returns_B, self._follows = torch.zeros(num), False

    def _step(self, exploration: SubsetExploration, returns: list[float]) -> dict[str, Tensor]:
        state, streams = self._state, self.environment.streams
        assert state is not None
        pool = self._source.candidates(state, streams)
        q_BK, utility_BK = self.network.q_values(state, pool.item_id)  # type: ignore[operator]
        require_finite_q(q_BK, utility_BK, pool.mask, state.step)
        allowed_BK = support_mask(utility_BK, pool.mask, self._settings.support_ratio)
        uniforms_BU = streams.uniform(state.step, 4 + pool.item_id.shape[1], LANE_ACT)
        decision = decide(q_BK, allowed_BK, pool, uniforms_BU[:, :4], exploration)
        step = self.environment.step(decision.item_id)
        self._state = step.state
        self._count_returns(step.reward, step.terminated | step.truncated, returns)
        kept = self._kept(pool, allowed_BK, uniforms_BU[:, 4:])
        return pack_step(state, kept, decision, step)

    def _kept(
        self, pool: Candidates, allowed_BK: Tensor, uniforms_BK: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Items and mask [B, S] for the maximum at this state: the allowed first, then others.

        As long as no more than S are allowed, the maximum over them is the one over the pool.
        """
        num = self._settings.target_subset_size
        if num == 0 or num >= pool.item_id.shape[1]:
            return pool.item_id, pool.mask
        order_BK = uniforms_BK + pool.mask.float() + 2.0 * allowed_BK.float()
        slots_BS = order_BK.topk(num, dim=1).indices
        return pool.item_id.gather(1, slots_BS), pool.mask.gather(1, slots_BS)

    def _count_returns(self, reward_B: Tensor, ended_B: Tensor, returns: list[float]) -> None:
        self._returns_B = self._returns_B + reward_B
        if bool(ended_B.any()):
            returns.extend(self._returns_B[ended_B].tolist())
            self._returns_B = self._returns_B.masked_fill(ended_B, 0.0)

    def _log(self, rows: SessionRows) -> None:
        steps, log = rows.num_valid, self.metrics.log_value
        log(NUM_ENV_STEPS_SAMPLED, steps, reduce="sum")
        log(NUM_ENV_STEPS_SAMPLED_LIFETIME, steps, reduce="lifetime_sum")
        log(NUM_EPISODES, len(rows.returns), reduce="sum")
        if rows.returns:
            log(EPISODE_RETURN_MEAN, float(np.mean(rows.returns)), reduce="mean")

    def receive(self, state: dict[str, Any]) -> int:
        """`set_state`, and the number of the weights that are held afterwards."""
        self.set_state(state)
        return self.weights_seq_no

    def get_metrics(self) -> Any:
        """What happened since the last call; called by RLlib."""
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
        """Everything but the network, which the learner owns, so that sessions go on exactly."""
        del components, not_components, kwargs
        state: dict[str, Any] = {
            WEIGHTS_SEQ_NO: self.weights_seq_no,
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self._env_steps,
        }
        if self._state is not None:
            sessions = {"returns": self._returns_B} | self.environment.get_state()
            state[ENVIRONMENT] = {name: value.numpy() for name, value in sessions.items()}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over whatever parts are there; weights only of another number than its own."""
        self._env_steps = int(state.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, self._env_steps))
        number = int(state.get(WEIGHTS_SEQ_NO, -1))
        # Unequal, not smaller: a restored run has older weights than its runners.
        news = number < 0 or number != self.weights_seq_no
        if COMPONENT_RL_MODULE in state and news and not self._shared:
            self._weights = state[COMPONENT_RL_MODULE][DEFAULT_MODULE_ID]["network"]
            self.weights_seq_no = number
        if ENVIRONMENT in state:
            sessions = {k: torch.from_numpy(np.array(v)) for k, v in state[ENVIRONMENT].items()}
            self._returns_B = sessions.pop("returns")
            self._state = self.environment.set_state(sessions, auto_reset=True)
            self._follows = True

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        """How RLlib makes another one."""
        return (), {"config": self.config, "worker_index": self.worker_index}

    def assert_healthy(self) -> None:
        """Construction got to its end."""
        assert self.environment is not None
