"""Settings of policy training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from recomind.candidates import ExplorationConfig, ExplorationKind
from recomind.device_settings import check_device_name
from recomind.errors import ConfigError
from recomind.training.actor_critic.config import ActorCriticConfig
from recomind.training.algorithms import algorithm_name
from recomind.training.offline.config import OfflineConfig

if TYPE_CHECKING:
    import torch

_POSITIVE = (
    *("n_step", "batch_size", "num_sessions", "rollout_length", "steps_per_iteration"),
    *("env_steps_per_update", "target_update_every", "replay_capacity", "subset_size"),
    *("checkpoint_every", "keep_checkpoints", "num_threads"),
)
_NOT_NEGATIVE = (
    *("num_env_steps", "learning_starts", "target_subset_size", "num_runners", "num_learners"),
    "compare_sessions",
)


@dataclass(kw_only=True, slots=True)
class TrainingConfig:
    """How a policy is trained inside an environment."""

    algorithm: str = "dqn"  # a name of `recomind.training.algorithms`, or a dotted name
    actor_critic: ActorCriticConfig = field(
        default_factory=ActorCriticConfig
    )  # the actor-critic's own settings
    offline: OfflineConfig = field(default_factory=OfflineConfig)  # those of bc, cql and iql
    options: dict[str, Any] = field(default_factory=dict)  # settings of an algorithm of your own
    gamma: float = 0.95  # discount per event, in [0, 1)
    n_step: int = 3  # rewards summed before bootstrapping
    learning_rate: float = 1e-3  # for Adam
    batch_size: int = 256  # transitions per update, summed over all learners
    max_grad_norm: float = 10.0  # gradients are scaled down to this norm
    target_rate: float = 0.02  # step of the target towards the network at each update; 0 for copies
    target_update_every: int = 200  # updates between copies to the target, if target_rate is 0
    target_subset_size: int = 32  # candidates at s' for the maximum; 0 keeps the whole pool

    num_env_steps: int = 80_000  # events simulated in total; 0 for no training
    env_steps_per_update: int = 64  # events simulated per update
    steps_per_iteration: int = 16_384  # events between two reports
    num_sessions: int = 256  # sessions in lock-step, per runner
    rollout_length: int = 8  # steps of each session between updates
    replay_capacity: int = 100_000  # session-steps kept, over all runners
    learning_starts: int = 4_096  # events simulated before the first update
    # Simulated sessions in which the policy must beat step 0, where it is left otherwise; 0 keeps
    # what was learned.
    compare_sessions: int = 1_000
    prioritised: float = 0.0  # exponent of the TD error in sampling; 0 samples uniformly
    prioritised_beta: float = 0.4  # exponent of importance weights, rising linearly to 1

    exploration: ExplorationKind = ExplorationKind.subset  # used by "dqn" only
    epsilon_start: float = 0.3  # exploration rate at the first event, falling linearly ...
    epsilon_end: float = 0.1  # ... to this at the last
    subset_size: int = 20  # candidates in an exploring decision, for `subset`
    temperature: float = 0.1  # in units of the scores, for `softmax`
    support_ratio: float = 0.6  # rho: least utility of an allowed candidate, relative to the best

    num_runners: int = 0  # simulating processes; 0 simulates in the calling process
    restart_runners: bool = False  # continue when a process dies; otherwise its error ends the run
    ray_address: str = ""  # head of a running cluster, host:port; default $RAY_ADDRESS or local
    num_learners: int = 0  # learning processes; 0 learns in the calling process
    num_threads: int = 1  # torch threads of the calling process; above 1 not reproducible
    device: str = "cpu"  # learners use it: auto, cpu, cuda or cuda:N; follows `device`

    checkpoint_every: int = 1  # iterations
    keep_checkpoints: int = 2  # older ones are removed

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            self._check(name, getattr(self, name) >= 1, ">= 1")
        for name in _NOT_NEGATIVE:
            self._check(name, getattr(self, name) >= 0, ">= 0")
        self._check("gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)")
        self._check("target_rate", 0.0 <= self.target_rate <= 1.0, "in [0, 1]")
        self._check("learning_rate", self.learning_rate > 0.0, "> 0")
        self._check("temperature", 0.0 < self.temperature < math.inf, "> 0")
        self._check("max_grad_norm", self.max_grad_norm > 0.0, "> 0")
        self._check("support_ratio", 0.0 <= self.support_ratio <= 1.0, "in [0, 1]")
        for name in ("epsilon_start", "epsilon_end"):
            self._check(name, 0.0 <= getattr(self, name) <= 1.0, "in [0, 1]")
        check_device_name(self.device, "training.device")
        algorithm_name(self.algorithm)
        self._check("prioritised", 0.0 <= self.prioritised <= 1.0, "in [0, 1]")
        self._check("prioritised_beta", 0.0 <= self.prioritised_beta <= 1.0, "in [0, 1]")
        self._check_sizes()

    def _check_sizes(self) -> None:
        capacity = self.replay_capacity
        self._check("batch_size", self.batch_size <= capacity, f"<= replay_capacity {capacity}")
        learners = max(1, self.num_learners)
        self._check("batch_size", self.batch_size % learners == 0, "a multiple of num_learners")
        self._check(
            "learning_starts", self.learning_starts <= capacity, f"<= replay_capacity {capacity}"
        )
        least = self.num_sessions * max(1, self.num_runners) * (self.n_step + 2)
        self._check(
            "replay_capacity", capacity >= least, f">= {least}, n_step + 2 steps of every session"
        )
        rows = self.replay_rows
        self._check(
            "rollout_length", self.rollout_length <= rows, f"<= {rows}, the steps the replay keeps"
        )

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ConfigError(f"training.{name}", got=getattr(self, name), expected=expected)

    @property
    def learner_device(self) -> torch.device:
        """Where the learners are.

        Learners in processes of their own may be on other machines, where Ray finds the GPUs: what
        is asked for by name need not be here.

        Raises:
            ConfigError: a learner in this process is to use a device that is not there.
        """
        import torch

        from recomind.devices import find_device

        if self.num_learners > 0 and self.device != "auto":
            return torch.device(self.device)
        return find_device(self.device, "training.device")

    @property
    def replay_rows(self) -> int:
        """Time steps that each runner's replay keeps."""
        return self.replay_capacity // (self.num_sessions * max(1, self.num_runners))

    def epsilon(self, env_steps: int) -> float:
        """Exploration rate after `env_steps` events."""
        return self.epsilon_start + (self.epsilon_end - self.epsilon_start) * self._done(env_steps)

    def exploring(self, env_steps: int) -> ExplorationConfig:
        """The exploration of decisions after `env_steps` events."""
        return ExplorationConfig(
            kind=self.exploration,
            epsilon=self.epsilon(env_steps),
            subset_size=self.subset_size,
            temperature=self.temperature,
        )

    def importance(self, env_steps: int) -> float:
        """Exponent of the importance weights of a prioritised replay after `env_steps` events."""
        return self.prioritised_beta + (1.0 - self.prioritised_beta) * self._done(env_steps)

    def _done(self, env_steps: int) -> float:
        return min(1.0, env_steps / max(1, self.num_env_steps))
