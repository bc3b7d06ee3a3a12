"""What is compared: each arm can sample, learn, and train one to one, and knows its counts."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
)

from benchmarks.training.setting import BATCH_SIZE, SEED, STEPS_PER_ITERATION, settings
from benchmarks.training.stock import stock
from recomind.training.dqn.algorithm import SessionDQNConfig
from recomind.training.dqn.reference import ReferenceTrainer
from recomind.training.dqn.replay import SessionReplay
from recomind.training.problem import SessionProblem
from recomind.types import Transition

_TRAINED = (LEARNER_RESULTS, DEFAULT_MODULE_ID, NUM_MODULE_STEPS_TRAINED_LIFETIME)


class Arm(Protocol):
    """One way to train; every call does some of it and returns how much."""

    def sample(self) -> int:
        """Environment steps simulated and put into the replay, nothing learnt."""
        ...

    def learn(self) -> int:
        """Transitions learnt from the replay, nothing simulated."""
        ...

    def train(self) -> int:
        """Environment steps simulated, as many transitions learnt."""
        ...


class Plain:
    """The reference in plain torch."""

    def __init__(self, problem: SessionProblem) -> None:
        self.trainer = ReferenceTrainer(problem, settings(), seed=SEED)

    def sample(self) -> int:
        before = self.trainer.num_env_steps
        self.trainer.simulate()
        sampled = self.trainer.num_env_steps - before
        self.trainer.num_env_steps = before  # so that no updates fall due
        return sampled

    def learn(self) -> int:
        self.trainer.num_updates -= 1  # so that `train` is not one ahead
        self.trainer.learn()
        return BATCH_SIZE

    def train(self) -> int:
        before = self.trainer.num_env_steps
        self.trainer.run(before + STEPS_PER_ITERATION)
        return self.trainer.num_env_steps - before


class AsksAgain(Plain):
    """The reference, with the frozen ranker asked at every update instead of once at each step."""

    def __init__(self, problem: SessionProblem) -> None:
        super().__init__(problem)
        replay = self.trainer.replay
        self.trainer.replay = _WithoutUtilities(
            num_rows=replay.num_rows, n_step=replay.n_step, gamma=replay.gamma
        )


class _WithoutUtilities(SessionReplay):
    def sample(self, batch_size: int, generator: torch.Generator) -> Transition:
        transition = super().sample(batch_size, generator)
        transition.utility = transition.next_utility = None
        return transition


class Ours:
    """SessionDQN with runner and learner in this process."""

    def __init__(self, problem: SessionProblem) -> None:
        config = SessionDQNConfig().session(problem=problem, settings=settings(), seed=SEED)
        self.algorithm: Any = config.build_algo()

    def sample(self) -> int:
        before = self.algorithm.num_env_steps
        self.algorithm._remember(self.algorithm._simulate())
        sampled = self.algorithm.num_env_steps - before
        self.algorithm.num_env_steps = before  # so that no updates fall due
        return sampled

    def learn(self) -> int:
        self.algorithm.num_updates -= 1  # so that one update is due
        self.algorithm._learn()
        return BATCH_SIZE

    def train(self) -> int:
        before = self.algorithm.num_env_steps
        self.algorithm.train()
        return self.algorithm.num_env_steps - before


class Stock:
    """RLlib's DQN with one environment or a vector of them."""

    def __init__(self, problem: SessionProblem, num_envs: int) -> None:
        self.algorithm: Any = stock(problem, num_envs).build_algo()

    def sample(self) -> int:
        sampled: Any = synchronous_parallel_sample(
            worker_set=self.algorithm.env_runner_group,
            concat=True,
            _uses_new_env_runners=True,
            _return_metrics=True,
        )
        episodes, metrics = sampled
        self.algorithm.metrics.aggregate(metrics, key=ENV_RUNNER_RESULTS)
        self.algorithm.local_replay_buffer.add(episodes)
        return sum(len(episode) for episode in episodes)

    def learn(self) -> int:
        config = self.algorithm.config
        episodes = self.algorithm.local_replay_buffer.sample(
            num_items=BATCH_SIZE,
            n_step=config.n_step,
            gamma=config.gamma,
            batch_length_T=0,
            lookback=0,
            min_batch_length_T=0,
            sample_episodes=True,
        )
        found = self.algorithm.learner_group.update(
            episodes=episodes, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self._counts()[0]}
        )
        self.algorithm.metrics.aggregate(found, key=LEARNER_RESULTS)
        return BATCH_SIZE

    def train(self) -> int:
        """Also checks that as much was learnt as was simulated, give or take a batch."""
        before = self._counts()
        self.algorithm.train()
        steps, trained = (now - then for now, then in zip(self._counts(), before, strict=True))
        if before[1] and not abs(steps - trained) <= BATCH_SIZE:
            raise RuntimeError(f"{steps} steps simulated, {trained} transitions learnt")
        return steps

    def _counts(self) -> tuple[int, int]:
        """Environment steps and transitions learnt so far."""
        peek = self.algorithm.metrics.peek
        return (
            int(peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0)),
            int(peek(_TRAINED, default=0)),
        )
