"""RLlib's own DQN on the same sessions and the same network.

Its environment is `setting.Feed` again in numpy: at a batch of one, torch's calls would cost more
than RLlib. An observation is the flattened state and its candidates:

    user_id | user_features U | item ids L | feedback L*H | dwell_s L | gap_s L | gap_s | step | K

all float32, in which ids below 2^24 are exact. An action is a slot of the candidates.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from ray.rllib.algorithms.dqn.dqn import DQNConfig
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ENCODER_OUT
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.schedules.scheduler import Scheduler
from torch import Tensor, nn

from benchmarks.training.setting import (
    BATCH_SIZE,
    HORIZON,
    LEAVE_RATE,
    LENGTH,
    NUM_CANDIDATES,
    NUM_ITEMS,
    NUM_USER_FEATURES,
    SEED,
    STEPS_PER_ITERATION,
    TASKS,
    feedback_rates,
    settings,
)
from recomind.training.problem import SessionProblem
from recomind.types import SessionState

Array = NDArray[Any]
H = len(TASKS)
_SIZES = (1, NUM_USER_FEATURES, LENGTH, LENGTH * H, LENGTH, LENGTH, 2, NUM_CANDIDATES)
_USER, _FEATURES, _ITEMS, _FEEDBACK, _DWELL, _GAP, _NOW, _POOL = (
    slice(end - size, end) for size, end in zip(_SIZES, np.cumsum(_SIZES), strict=True)
)
_SPACE = spaces.Box(-1.0, 1e7, (sum(_SIZES),), np.float32)
_ACTIONS = spaces.Discrete(NUM_CANDIDATES)


class _Feed:
    """`B` sessions, as rows of observations."""

    def __init__(self, num: int) -> None:
        self.rates_NH, self.draws = feedback_rates().numpy(), np.random.default_rng(SEED)
        self.rows = np.zeros((num, sum(_SIZES)), np.float32)
        self.begin(np.arange(num))

    def begin(self, index: Array) -> None:
        draws, num = self.draws, len(index)
        rows = np.zeros((num, self.rows.shape[1]), np.float32)
        rows[:, _USER] = draws.integers(1_000_000, size=(num, 1))
        rows[:, _FEATURES] = draws.random((num, NUM_USER_FEATURES), np.float32)
        rows[:, _ITEMS] = draws.integers(NUM_ITEMS, size=(num, LENGTH))
        rows[:, _DWELL] = rows[:, _GAP] = 5.0
        rows[:, _NOW] = (5.0, 0.0)
        rows[:, _POOL] = draws.integers(NUM_ITEMS, size=(num, NUM_CANDIDATES))
        self.rows[index] = rows

    def step(self, slot: Array) -> tuple[Array, Array, Array]:
        """Rewards, who left, whose horizon is reached, each [B]."""
        rows, num, draws = self.rows.copy(), len(slot), self.draws.random((len(slot), H + 2))
        item = rows[:, _POOL][np.arange(num), slot]
        feedback = draws[:, :H] < self.rates_NH[item.astype(np.int64)]
        for part, latest, width in (
            (_ITEMS, item[:, None], 1),
            (_FEEDBACK, feedback, H),
            (_GAP, rows[:, _NOW][:, :1], 1),
            (_DWELL, 20.0 * draws[:, H : H + 1], 1),
        ):
            rows[:, part.start : part.stop - width] = self.rows[:, part.start + width : part.stop]
            rows[:, part.stop - width : part.stop] = latest
        rows[:, _NOW] += (0.0, 1.0)
        rows[:, _NOW.start] = 20.0 * draws[:, H]
        rows[:, _POOL] = self.draws.integers(NUM_ITEMS, size=(num, NUM_CANDIDATES))
        self.rows = rows
        left = draws[:, H + 1] < LEAVE_RATE
        return feedback[:, 0].astype(np.float64), left, ~left & (rows[:, _NOW.stop - 1] >= HORIZON)


class FeedEnv(gym.Env[Array, np.int64]):
    """One session at a time."""

    observation_space, action_space = _SPACE, _ACTIONS

    def __init__(self) -> None:
        self._feed = _Feed(1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """A new session."""
        super().reset(seed=seed, options=options)
        self._feed.begin(np.arange(1))
        return self._feed.rows[0].copy(), {}

    def step(self, action: np.int64) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Show what is in the slot."""
        reward, left, cut = self._feed.step(np.array([action]))
        return self._feed.rows[0], float(reward[0]), bool(left[0]), bool(cut[0]), {}


class FeedVectorEnv(VectorEnv[Array, Array, Array]):
    """Sessions in lock-step, auto-reset at the step after an end."""

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int = 1) -> None:
        self.num_envs, self._feed = num_envs, _Feed(num_envs)
        self.single_observation_space, self.single_action_space = _SPACE, _ACTIONS
        self.observation_space = batch_space(_SPACE, num_envs)
        self.action_space = batch_space(_ACTIONS, num_envs)
        self._ended = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """New sessions."""
        super().reset(seed=seed, options=options)
        self._feed.begin(np.arange(self.num_envs))
        self._ended[:] = False
        return self._feed.rows.copy(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Show what is in the slots; sessions that had ended begin anew."""
        reward, left, cut = self._feed.step(np.asarray(actions))
        anew = self._ended
        if anew.any():
            self._feed.begin(anew.nonzero()[0])
            reward[anew], left[anew], cut[anew] = 0.0, False, False
        self._ended = left | cut
        return self._feed.rows, reward, left, cut, {}


gym.register(
    id="benchmark/Feed-v0",
    entry_point="benchmarks.training.stock:FeedEnv",
    vector_entry_point="benchmarks.training.stock:FeedVectorEnv",
)


class _QValues(nn.Module):
    """The network as RLlib's encoder: observations in, Q of all candidates out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        observation = batch[Columns.OBS]
        q_BK, _ = self.network.q_values(  # type: ignore[operator]
            unflatten(observation), observation[:, _POOL].long()
        )
        return {ENCODER_OUT: q_BK}


def unflatten(observation: Tensor) -> SessionState:
    """The state [B] in an observation [B, ...]."""
    num = len(observation)
    return SessionState(
        user_id=observation[:, _USER][:, 0].long(),
        user_features=observation[:, _FEATURES],
        history_item_id=observation[:, _ITEMS].long(),
        history_feedback=observation[:, _FEEDBACK].view(num, LENGTH, H).bool(),
        history_dwell_s=observation[:, _DWELL],
        history_gap_s=observation[:, _GAP],
        history_mask=torch.ones(num, LENGTH, dtype=torch.bool),
        gap_s=observation[:, _NOW][:, 0],
        step=observation[:, _NOW][:, 1].long(),
        batch_size=[num],
    )


class StockModule(DefaultDQNTorchRLModule):
    """RLlib's DQN module around our network; everything else in it is RLlib's."""

    def setup(self) -> None:
        """Instead of RLlib's own encoder and head."""
        self.uses_dueling, self.uses_double_q, self.num_atoms = False, True, 1
        self.epsilon_schedule = Scheduler(
            fixed_value_or_schedule=self.model_config["epsilon"], framework="torch"
        )
        self.encoder = _QValues(self.model_config["problem"].network())
        self.af = nn.Identity()


def stock(problem: SessionProblem, num_envs: int) -> DQNConfig:
    """RLlib's DQN with the settings that ours has, as far as it knows them."""
    ours, fragment = settings(), BATCH_SIZE // num_envs
    max_grad_norm: Any = ours.max_grad_norm  # a float, as RLlib's own examples have it
    # One environment is slow, and RLlib's work per iteration is nothing beside it.
    steps = STEPS_PER_ITERATION if num_envs > 1 else STEPS_PER_ITERATION // 2
    model = {"problem": problem, "epsilon": 0.3, "double_q": True, "num_atoms": 1}
    config = DQNConfig().environment("benchmark/Feed-v0", disable_env_checking=True)
    config.env_runners(
        num_env_runners=0,
        num_envs_per_env_runner=num_envs,
        rollout_fragment_length=fragment,
        gym_env_vectorize_mode="vector_entry_point" if num_envs > 1 else "sync",
    ).training(
        train_batch_size_per_learner=BATCH_SIZE,
        training_intensity=1.0,
        gamma=ours.gamma,
        n_step=ours.n_step,
        lr=ours.learning_rate,
        grad_clip=max_grad_norm,
        double_q=True,
        dueling=False,
        num_atoms=1,
        epsilon=0.3,
        tau=1.0,
        target_network_update_freq=ours.target_update_every * BATCH_SIZE,
        num_steps_sampled_before_learning_starts=ours.learning_starts,
        replay_buffer_config={
            "type": "EpisodeReplayBuffer",
            "capacity": ours.replay_capacity,
            "batch_size_B": BATCH_SIZE,
        },
    ).learners(num_learners=0).reporting(
        min_sample_timesteps_per_iteration=steps, min_time_s_per_iteration=None
    ).rl_module(rl_module_spec=RLModuleSpec(module_class=StockModule, model_config=model))
    config.log_level = "ERROR"
    return config
