"""The training loop: iterate, report, checkpoint, resume."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, cast

import torch
from ray.exceptions import RayError
from torch.utils.tensorboard import SummaryWriter

from recomind.aliases import as_today
from recomind.artifacts import Manifest
from recomind.errors import ArtifactError, ConfigError, RecomindError
from recomind.training.algorithm import SessionAlgorithm
from recomind.training.checkpoint import keep_newest, load_newest, save_checkpoint
from recomind.training.cluster import check_cpus, quiet_rllib, running_ray, without_object_store
from recomind.training.config import TrainingConfig
from recomind.training.problem import SessionProblem
from recomind.training.session_config import find_algorithm
from recomind.types import TrainableQFunction

_MAY_CHANGE = (
    *("num_env_steps", "steps_per_iteration", "num_threads", "device"),
    *("checkpoint_every", "keep_checkpoints", "restart_runners", "ray_address"),
    "compare_sessions",
)
_MAX_FAULTS = 3  # in a row, without an iteration between them
_NEW_NODE_S = 120.0  # how long a cluster may take to replace a node
_log = logging.getLogger(__name__)


class ProcessDiedError(RecomindError):
    """A runner or a learner in another process died."""


def train_policy(
    problem: SessionProblem,
    config: TrainingConfig,
    *,
    seed: int,
    checkpoint_dir: Path,
    on_iteration: Callable[[dict[str, Any]], None],
    tensorboard_dir: Path | None = None,
    inputs: Mapping[str, str] | None = None,
) -> TrainableQFunction:
    """Train the problem's network, continuing from the newest checkpoint if there is one.

    Args:
        problem: what to train on.
        config: settings of the training.
        seed: determines all randomness; with one process and one thread, every bit.
        checkpoint_dir: where checkpoints are read and written.
        on_iteration: called after each iteration with `iteration`, `env_steps`, `updates`,
            `simulated_return` (mean sum of rewards of the sessions that ended), the scalars of
            the algorithm's loss (its `METRICS`), `weights_behind_updates` and
            `weights_behind_env_steps` (largest staleness of the acting weights), `faults` (restarts
            because a process died), `epsilon`, `steps_per_s`, `seconds_left` and `network`, the
            live one, in evaluation mode and not to be modified. Numbers that an iteration does not
            have are NaN.
        tensorboard_dir: where the same numbers are written as TensorBoard scalars.
        inputs: name -> identity of the problem's inputs; checkpoints with others are refused.

    Returns:
        The network on the CPU, in evaluation mode; untrained where `num_env_steps` is 0.

    Raises:
        ConfigError: more processes than CPUs, no cluster at the address, or the checkpoint was
            written with other settings.
        ArtifactError: the checkpoint has another format version, catalogue or input, or cannot be
            written.
        ProcessDiedError: a runner or a learner died, and `restart_runners` is off or did not help.
        RecomindError: a loss or a gradient that is not finite.
    """
    if config.num_env_steps == 0:
        return problem.network().eval()
    job = _Job(problem, config, seed, checkpoint_dir, on_iteration, tensorboard_dir, inputs or {})
    with _threads(config.num_threads), running_ray(config):
        while True:
            try:
                return job.attempt()
            except ProcessDiedError as error:
                job.forgive(error)
                check_cpus(config.num_runners + config.num_learners, patience_s=_NEW_NODE_S)


class _Job:
    """The training, in as many attempts as dying processes make necessary."""

    def __init__(
        self,
        problem: SessionProblem,
        config: TrainingConfig,
        seed: int,
        checkpoint_dir: Path,
        on_iteration: Callable[[dict[str, Any]], None],
        tensorboard_dir: Path | None,
        inputs: Mapping[str, str],
    ) -> None:
        self._problem, self._config, self._seed = problem, config, seed
        self._checkpoint_dir, self._tensorboard_dir = checkpoint_dir, tensorboard_dir
        self._on_iteration, self._inputs = on_iteration, inputs
        self._faults = self._in_a_row = 0

    def attempt(self) -> TrainableQFunction:
        """Train from the newest checkpoint to the end.

        Raises:
            ProcessDiedError: a process died; another attempt may succeed.
        """
        try:
            with _algorithm(self._problem, self._config, self._seed) as algorithm:
                return self._judged(algorithm)
        except RayError as error:
            cause = getattr(error, "cause", None)  # raised in another process
            raise (cause if isinstance(cause, RecomindError) else _died(error)) from error

    def _judged(self, algorithm: SessionAlgorithm) -> TrainableQFunction:
        try:
            return self._run(algorithm)
        except (RecomindError, RayError):
            raise
        except torch.OutOfMemoryError as error:
            raise _too_little_memory(self._config, error) from error
        except Exception as error:
            # RLlib raises various errors where a learner is gone.
            if algorithm.lost_learners:
                raise _died(error) from error
            raise

    def _run(self, a: SessionAlgorithm) -> TrainableQFunction:
        inputs = dict(self._inputs) | {"catalogue": a.catalogue_identity()}
        run = _Run(a, self._config, self._seed, self._checkpoint_dir, inputs)
        run.resume()
        with _writer(self._tensorboard_dir) as writer:
            while a.num_env_steps < self._config.num_env_steps:
                report = run.iterate() | {"faults": self._faults}
                _write(writer, report)
                self._on_iteration(report | {"network": a.trained_network()})
                run.save()  # last: after an earlier kill, iteration and report are repeated
                self._in_a_row = 0
        return a.trained_network().cpu().eval()

    def forgive(self, error: ProcessDiedError) -> None:
        """Count a fault; raise it if another attempt is not wanted or not promising."""
        self._faults += 1
        self._in_a_row += 1
        if not self._config.restart_runners or self._in_a_row > _MAX_FAULTS:
            raise error
        _log.warning("%s; continuing from the last checkpoint", error.what)


def _died(error: Exception) -> ProcessDiedError:
    said = str(error).strip().splitlines()
    return ProcessDiedError(
        "a process of the training died",
        got=said[0] if said else type(error).__name__,
        mend="run the same command again to continue from the last checkpoint; with "
        "training.restart_runners=true it continues by itself",
    )


class _Run:
    """One training run and its place on disk."""

    def __init__(
        self,
        algorithm: SessionAlgorithm,
        config: TrainingConfig,
        seed: int,
        checkpoint_dir: Path,
        inputs: Mapping[str, str],
    ) -> None:
        self._algorithm, self._config, self._seed = algorithm, config, seed
        self._checkpoint_dir, self._inputs, self._iteration = checkpoint_dir, inputs, 0

    def resume(self) -> None:
        found = load_newest(self._checkpoint_dir)
        if found is None:
            return
        manifest, state = found
        _check_inputs(manifest, self._inputs)
        _check_same(manifest, self._config, self._seed)
        self._algorithm.set_training_state(state)
        self._iteration = int(manifest.extra["iteration"])

    def iterate(self) -> dict[str, Any]:
        algorithm, start, before = self._algorithm, time.monotonic(), self._algorithm.num_env_steps
        algorithm.train()
        self._iteration += 1
        left = self._config.num_env_steps - algorithm.num_env_steps
        speed = (algorithm.num_env_steps - before) / (time.monotonic() - start)
        return (
            {"iteration": self._iteration}
            | algorithm.report
            | {
                "epsilon": self._config.epsilon(algorithm.num_env_steps),
                "steps_per_s": speed,
                "seconds_left": max(0, left) / speed,
            }
        )

    def save(self) -> None:
        """Write a checkpoint if one is due."""
        done = self._algorithm.num_env_steps >= self._config.num_env_steps
        if not done and self._iteration % self._config.checkpoint_every:
            return
        config = dataclasses.asdict(self._config)
        state = self._algorithm.training_state()
        save_checkpoint(
            self._checkpoint_dir, self._iteration, state, config, self._seed, self._inputs
        )
        keep_newest(self._checkpoint_dir, self._config.keep_checkpoints)


def _check_inputs(manifest: Manifest, inputs: Mapping[str, str]) -> None:
    names = inputs.keys() | manifest.inputs.keys()
    differ = sorted(name for name in names if inputs.get(name) != manifest.inputs.get(name))
    if differ:
        what = "another catalogue" if "catalogue" in differ else "other inputs"
        raise ArtifactError(
            f"the checkpoints here were written with {what}",
            got={name: manifest.inputs.get(name, "not recorded")[:12] for name in differ},
            expected={name: inputs.get(name, "none")[:12] for name in differ},
            mend="continue with the inputs they were trained on, or remove them to start over",
        )


def _too_little_memory(config: TrainingConfig, error: Exception) -> RecomindError:
    size = config.batch_size
    return RecomindError(
        "too little memory on the device for an update of the policy",
        got=f"training.batch_size={size}: {str(error).splitlines()[0]}",
        mend=f"halve it until it fits, from training.batch_size={max(1, size // 2)} on; a smaller "
        "training.target_subset_size helps as well, and training.device=cpu always",
    )


def _check_same(manifest: Manifest, config: TrainingConfig, seed: int) -> None:
    ours = _plain(config) | {"seed": seed}
    theirs = as_today({"training": manifest.config})["training"] | {"seed": manifest.seed}
    theirs = _plain(TrainingConfig()) | theirs  # settings that came later are at their defaults
    differ = [k for k in ours if ours[k] != theirs[k] and k not in _MAY_CHANGE]
    if differ:
        raise ConfigError(
            "the checkpoints here were written with other settings",
            got={name: ours[name] for name in differ},
            expected={name: theirs.get(name) for name in differ},
            mend="continue with the same settings, or use another folder",
        )


def _plain(config: TrainingConfig) -> dict[str, Any]:
    """As in a manifest: enums by their values."""
    settings = dataclasses.asdict(config)
    return {k: v.value if isinstance(v, Enum) else v for k, v in settings.items()}


@contextmanager
def _algorithm(
    problem: SessionProblem, config: TrainingConfig, seed: int
) -> Iterator[SessionAlgorithm]:
    with quiet_rllib():
        settings = find_algorithm(config.algorithm).config()
        settings.session(problem=problem, settings=config, seed=seed)
        with without_object_store():
            algorithm = cast(SessionAlgorithm, settings.build_algo())
        try:
            yield algorithm
        finally:
            with contextlib.suppress(RayError):  # a process that is gone is reported elsewhere
                algorithm.stop()


@contextmanager
def _threads(num: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _writer(folder: Path | None) -> Iterator[SummaryWriter | None]:
    if folder is None:
        yield None
        return
    with SummaryWriter(str(folder)) as writer:
        yield writer


def _write(writer: SummaryWriter | None, report: dict[str, Any]) -> None:
    if writer is None:
        return
    for name, value in report.items():
        if name not in ("iteration", "env_steps") and math.isfinite(value):
            writer.add_scalar(f"training/{name}", value, global_step=report["env_steps"])
