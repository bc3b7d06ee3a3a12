"""What the algorithms that learn from logs share: draw logged decisions, update, repeat.

Network, bootstrap, support constraint, learner, checkpoints and averaged weights are those of every
algorithm here (`recomind.training.algorithm`); no environment is ever opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from recomind.errors import ConfigError
from recomind.training.algorithm import SessionAlgorithm
from recomind.training.checkpoint import catalogue_identity
from recomind.training.offline.columns import to_columns
from recomind.training.offline.logs import LoggedTransitions
from recomind.training.offline.runner import NoRunner
from recomind.training.problem import SessionProblem
from recomind.training.rows import SessionRows
from recomind.training.session_config import SessionConfig


class OfflineAlgorithmConfig(SessionConfig):
    """A configuration without runners; a subclass names its algorithm and module."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.env_runner_cls = NoRunner

    @property
    def module_settings(self) -> dict[str, Any]:
        """Those of every module, and the settings of learning from logs."""
        return super().module_settings | {"offline": self.session_settings.offline}

    def validate(self) -> None:
        """Also refuse runners, and a problem without logs."""
        super().validate()
        if self.session_settings.num_runners > 0:
            raise ConfigError(
                "training.num_runners with an algorithm that learns from logs",
                got=self.session_settings.num_runners,
                expected=0,
                mend="nothing is simulated; training.num_learners may be above 0",
            )
        if cast(SessionProblem, self.session_problem).logs is None:
            raise ConfigError(
                "an algorithm that learns from logs needs some",
                got="a SessionProblem without logs",
                mend="pass logs=..., or train in the simulator with training.algorithm=dqn",
            )


class OfflineAlgorithm(SessionAlgorithm):
    """The loop; a subclass says what is learned, in its module."""

    def setup(self, config: Any) -> None:
        """Read the logs, then RLlib's setup; called by RLlib."""
        problem = cast(SessionProblem, config.session_problem)
        settings = config.session_settings
        assert problem.logs is not None  # the configuration has looked
        self._logs = LoggedTransitions(
            problem.logs(),
            problem.candidates(),
            n_step=settings.offline.n_step,
            gamma=settings.gamma,
        )
        super().setup(config)

    def training_step(self) -> None:
        """The updates that `steps_per_iteration` simulated events would bring; called by RLlib."""
        goal, settings = self._goal(), self.settings
        while self.num_env_steps < goal:
            batch = self._logs.sample(settings.batch_size, self._generator)
            self.learners.update(
                batch=to_columns(batch, numpy=self.learner is None), _no_metrics_reduce=True
            )
            self.num_updates += 1
            self.num_env_steps = min(goal, self.num_env_steps + settings.env_steps_per_update)
        self._log_learning()

    def _new_memory(self) -> NoMemory:
        return NoMemory()

    def catalogue_identity(self) -> str:
        """Identity of the catalogue of the logs."""
        return catalogue_identity(self._logs.dataset.catalogue)


class NoMemory:
    """The logs are on disk already: a checkpoint holds none of them."""

    def __len__(self) -> int:
        return 0

    def add(self, rows: SessionRows) -> None:
        """Nothing is simulated."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Nothing."""
        return {}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Nothing to take over."""
