"""A finished run, opened for use from Python."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from recomind.candidates import CandidatePool
from recomind.config import RecomindConfig
from recomind.errors import ConfigError, did_you_mean
from recomind.evaluation.report import read_report
from recomind.pipeline.loading import (
    load_ensemble,
    load_holdout_simulator,
    load_policy,
    load_pool,
    load_simulator,
    problem,
)
from recomind.pipeline.run import Round, Run
from recomind.pipeline.run_file import read_config
from recomind.policy import QNetwork, QPolicy, RankerPolicy
from recomind.simulation import BatchedSessions, LearnedSimulator, TreeSimulator, World
from recomind.training.config import TrainingConfig
from recomind.training.trainer import train_policy
from recomind.types import Ranker


class FinishedRun:
    """What a run came to, each part loaded when it is first asked for.

    Rankers, simulator, policy and pool are those of the round that the report keeps.

    Args:
        run: with a report in its folder.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def config(self) -> RecomindConfig:
        """What the run was made with."""
        return self.run.config

    @cached_property
    def report(self) -> dict[str, Any]:
        """`report.json`."""
        return read_report(self.run.folder / "report")

    @cached_property
    def kept(self) -> Round:
        """The round whose policy the report is on."""
        last = self.run.rounds[-1]
        return self.run.round(self.report["rounds"].get("kept", last.index))

    @cached_property
    def rankers(self) -> list[Ranker]:
        """The ensemble; the first one is what would be served."""
        return load_ensemble(self.kept)

    @cached_property
    def ranker(self) -> RankerPolicy:
        """The first ranker, greedy: the arm to beat."""
        return RankerPolicy(self.rankers[:1], self.run.weights)

    @cached_property
    def policy(self) -> QPolicy:
        """The trained policy, greedy inside its support."""
        return QPolicy(load_policy(self.kept))

    @cached_property
    def pool(self) -> CandidatePool:
        """Where the policy's candidates come from."""
        return load_pool(self.kept, self.run.policy_index)

    @cached_property
    def simulator(self) -> LearnedSimulator:
        """Where the policy was trained."""
        return load_simulator(self.kept)

    @cached_property
    def holdout_simulator(self) -> TreeSimulator:
        """Another kind of simulator, fitted to other users and days; no policy trained in it."""
        return load_holdout_simulator(self.kept)

    @property
    def world(self) -> World | None:
        """The world that the logs came from, None where they were a company's own."""
        return self.run.world

    def train_policy(
        self, environment: BatchedSessions, *, folder: str | Path | None = None, **changes: Any
    ) -> QPolicy:
        """Train a policy by the run's recipe, from its ranker, in a simulator of your own.

        In the run's own simulator, without changes, it becomes the run's own policy.

        Args:
            environment: a simulator or a world with the run's tasks and items; its reward is what
                is learned.
            folder: checkpoints are kept here, and training goes on from them; nowhere where None.
            **changes: of the settings of `training`, such as `num_env_steps=20_000`.

        Returns:
            The trained policy, greedy inside its support.

        Raises:
            ConfigError: a setting that does not exist or does not fit.
        """
        training = _changed(self.config.training, changes)
        in_environment = dataclasses.replace(problem(self.kept), environment=lambda: environment)
        with tempfile.TemporaryDirectory() as scratch:
            network = train_policy(
                in_environment,
                training,
                seed=self.kept.seed("train-policy"),
                checkpoint_dir=Path(folder or scratch),
                on_iteration=lambda report: None,
            )
        return QPolicy(cast(QNetwork, network))


def _changed(training: TrainingConfig, changes: dict[str, Any]) -> TrainingConfig:
    known = [field.name for field in dataclasses.fields(training)]
    for name in changes:
        if name not in known:
            raise ConfigError(f"unknown setting training.{name}", mend=did_you_mean(name, known))
    return dataclasses.replace(training, **changes)


def open_run(folder: str | Path, *, allowed_targets: Sequence[str] = ()) -> FinishedRun:
    """Open the folder of a finished run.

    Args:
        folder: as `output=...` named it.
        allowed_targets: prefixes of your own worlds and generators, as on the command line; what
            the folder itself says of them is not followed.

    Raises:
        ArtifactError: there is no finished run.
        ConfigError: the run's settings are none of this version's.
    """
    run = FinishedRun(Run(read_config(Path(folder), allowed_targets)))
    _ = run.report  # no run is finished without one
    return run
