"""The algorithm's configuration in RLlib's terms."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from recomind.errors import ConfigError, did_you_mean
from recomind.training.config import TrainingConfig
from recomind.training.learner import SessionLearner
from recomind.training.problem import SessionProblem
from recomind.training.rl_module import SessionQModule
from recomind.training.runner import SessionRunner


class SessionDQNConfig(AlgorithmConfig):
    """Configuration of `SessionDQN`; `session()` sets everything from our own settings."""

    def __init__(self, algo_class: type | None = None) -> None:
        from recomind.training.algorithm import SessionDQN  # each needs the other, as RLlib wants

        super().__init__(algo_class=algo_class or SessionDQN)
        self.session_problem: SessionProblem | None = None
        self.session_settings = TrainingConfig()
        self.session_seed = 0
        self.session_changes: dict[str, Any] = {}  # to the settings, by name; Tune draws them
        self.env_runner_cls = SessionRunner
        self.create_local_env_runner = False  # RLlib makes one anyway where there is no other
        self._dont_auto_sync_env_runner_states = True  # ours blocks and is verified
        self.broadcast_env_runner_states = self.merge_env_runner_states = False
        self.log_level = "ERROR"

    def session(self, *, problem: SessionProblem, settings: TrainingConfig, seed: int = 0) -> Self:
        """Train on `problem` with `settings`; all randomness follows from `seed`."""
        self.session_problem, self.session_settings, self.session_seed = problem, settings, seed
        self.gamma, self.lr = settings.gamma, settings.learning_rate
        self.train_batch_size_per_learner = settings.batch_size // max(1, settings.num_learners)
        self.num_env_runners, self.num_learners = settings.num_runners, settings.num_learners
        self.num_envs_per_env_runner = settings.num_sessions
        self.rollout_fragment_length = settings.rollout_length
        self.restart_failed_env_runners = settings.restart_runners
        self.num_gpus_per_learner = int(settings.device == "cuda")
        return self

    def tuned(self, **changes: Any) -> Self:
        """Let Tune draw settings: `config.tuned(learning_rate=tune.loguniform(1e-4, 1e-2))`.

        They are `session_changes` in Tune's results and in the mutations of its schedulers.

        Raises:
            ConfigError: a setting that does not exist.
        """
        known = [field.name for field in dataclasses.fields(self.session_settings)]
        for name in changes:
            if name not in known:
                raise ConfigError(f"unknown setting {name!r}: {did_you_mean(name, known)}")
        self.session_changes = self.session_changes | changes
        return self

    def validate(self) -> None:
        """Also take over what Tune has drawn, and refuse to run without a problem."""
        if self.session_changes and self.session_problem is not None:
            self.session(
                problem=self.session_problem,
                settings=dataclasses.replace(self.session_settings, **self.session_changes),
                seed=self.session_seed,
            )
        super().validate()
        if self.session_problem is None:
            raise ConfigError("no problem to train on", mend="call .session(problem=...)")

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module that holds the problem's network."""
        settings = {
            "problem": self.session_problem,
            "support_ratio": self.session_settings.support_ratio,
        }
        return RLModuleSpec(module_class=SessionQModule, model_config=settings)

    def get_default_learner_class(self) -> type[SessionLearner]:
        """Ours."""
        return SessionLearner

    def build_learner_connector(self, *args: Any, **kwargs: Any) -> None:
        """None: batches come from the replay as tensors, there are no episodes to convert."""
        del args, kwargs
