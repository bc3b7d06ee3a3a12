"""What every algorithm tells RLlib and the trainer: its configuration, and how it is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from recomind.errors import ConfigError, did_you_mean
from recomind.plugins import resolve
from recomind.training.algorithms import algorithm_name
from recomind.training.config import TrainingConfig
from recomind.training.learner import SessionLearner
from recomind.training.problem import SessionProblem
from recomind.training.runner import SessionRunner


class SessionConfig(AlgorithmConfig):
    """What the configurations of all algorithms share; `session()` sets it from our own settings.

    A subclass names its algorithm, and the module in `get_default_rl_module_spec`.
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.session_problem: SessionProblem | None = None
        self.session_settings = TrainingConfig()
        self.session_seed = 0
        self.session_changes: dict[str, Any] = {}  # to the settings, by name; chosen by Tune
        self.env_runner_cls = SessionRunner
        self.create_local_env_runner = False  # RLlib creates one anyway if there is no other
        self._dont_auto_sync_env_runner_states = True  # `sync_weights` blocks and verifies
        self.broadcast_env_runner_states = self.merge_env_runner_states = False
        self.log_level = "ERROR"

    def session(self, *, problem: SessionProblem, settings: TrainingConfig, seed: int = 0) -> Self:
        """Train on `problem` with `settings`; `seed` determines all randomness."""
        self.session_problem, self.session_settings, self.session_seed = problem, settings, seed
        self.gamma, self.lr = settings.gamma, settings.learning_rate
        self.train_batch_size_per_learner = settings.batch_size // max(1, settings.num_learners)
        self.num_env_runners, self.num_learners = settings.num_runners, settings.num_learners
        self.num_envs_per_env_runner = settings.num_sessions
        self.rollout_fragment_length = settings.rollout_length
        self.restart_failed_env_runners = settings.restart_runners
        device = settings.learner_device
        self.num_gpus_per_learner = int(device.type == "cuda")
        self.local_gpu_idx = device.index or 0
        return self

    def tuned(self, **changes: Any) -> Self:
        """Let Tune choose settings: `config.tuned(learning_rate=tune.loguniform(1e-4, 1e-2))`.

        They appear as `session_changes` in Tune's results and in the mutations of its schedulers.

        Raises:
            ConfigError: there is no such setting.
        """
        known = [field.name for field in dataclasses.fields(self.session_settings)]
        for name in changes:
            if name not in known:
                raise ConfigError(f"unknown setting {name!r}: {did_you_mean(name, known)}")
        self.session_changes = self.session_changes | changes
        return self

    def validate(self) -> None:
        """Also apply what Tune has chosen, and refuse to run without a problem."""
        if self.session_changes and self.session_problem is not None:
            self.session(
                problem=self.session_problem,
                settings=dataclasses.replace(self.session_settings, **self.session_changes),
                seed=self.session_seed,
            )
        super().validate()
        if self.session_problem is None:
            raise ConfigError("there is no problem to train on", mend="call .session(problem=...)")

    @property
    def module_settings(self) -> dict[str, Any]:
        """What a `SessionModule` is set up with; an algorithm adds its own settings."""
        return {
            "problem": self.session_problem,
            "support_ratio": self.session_settings.support_ratio,
        }

    def get_default_learner_class(self) -> type[SessionLearner]:
        """The learner that keeps targets and checks that every loss is finite."""
        return SessionLearner

    def build_learner_connector(self, *args: Any, **kwargs: Any) -> None:
        """No connector: batches are tensors already; there are no episodes to convert."""
        del args, kwargs


@dataclass(frozen=True, kw_only=True, slots=True)
class RLAlgorithm:
    """What the trainer needs of an algorithm; each algorithm's module holds one, `ALGORITHM`."""

    config: Callable[[], SessionConfig]  # makes its configuration, which names its class
    reference: type | None = None  # the same training as a plain loop, where there is one
    from_logs: bool = False  # learns from the problem's logs, and opens no environment


def find_algorithm(name: str) -> RLAlgorithm:
    """The algorithm that `training.algorithm` names.

    Raises:
        ConfigError: neither in the table nor below an allowed prefix, or not an `RLAlgorithm`.
    """
    dotted = algorithm_name(name)
    found = resolve(dotted, setting="training.algorithm")
    if not isinstance(found, RLAlgorithm):
        raise ConfigError(
            "training.algorithm is not an algorithm",
            got=f"{dotted}, a {type(found).__name__}",
            expected="an RLAlgorithm of recomind.training.session_config",
        )
    return found
