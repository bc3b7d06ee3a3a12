"""The training loop: iterate, report, checkpoint, resume."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from recomind.artifacts import Manifest
from recomind.errors import ConfigError
from recomind.training.algorithm import SessionDQN
from recomind.training.algorithm_config import SessionDQNConfig
from recomind.training.checkpoint import keep_newest, load_newest, save_checkpoint
from recomind.training.cluster import quiet_rllib, running_ray
from recomind.training.config import TrainingConfig
from recomind.training.problem import SessionProblem

_MAY_CHANGE = (
    *("num_env_steps", "steps_per_iteration", "num_threads", "device"),
    *("checkpoint_every", "keep_checkpoints", "restart_runners"),
)


def train_policy(
    problem: SessionProblem,
    config: TrainingConfig,
    *,
    seed: int,
    checkpoint_dir: Path,
    on_iteration: Callable[[dict[str, Any]], None],
    tensorboard_dir: Path | None = None,
) -> nn.Module:
    """Train the problem's network; go on from the newest checkpoint where there is one.

    Args:
        problem: what to train on.
        config: how.
        seed: all randomness follows from it; with one process and one thread so does every bit.
        checkpoint_dir: checkpoints are looked for and kept here.
        on_iteration: called after each iteration with `iteration`, `env_steps`, `updates`,
            `simulated_return` (mean sum of rewards of the sessions that ended), `loss`, `q_mean`,
            `target_mean`, `td_error_abs`, `epsilon`, `steps_per_s`, `seconds_left` and `network`,
            the live one, in evaluation mode, not to be changed. A number that an iteration does
            not have is NaN.
        tensorboard_dir: where the same numbers go as TensorBoard scalars.

    Returns:
        The network on the CPU, in evaluation mode; as the problem gave it with 0 steps to train.

    Raises:
        ConfigError: more processes than CPUs, or a checkpoint of other settings.
        RecomindError: a loss or a gradient that is not finite.
    """
    if config.num_env_steps == 0:
        return problem.network().eval()
    with _threads(config.num_threads), running_ray(config), _algorithm(problem, config, seed) as a:
        run = _Run(a, config, seed, checkpoint_dir)
        run.resume()
        with _writer(tensorboard_dir) as writer:
            while a.num_env_steps < config.num_env_steps:
                report = run.iterate()
                _write(writer, report)
                on_iteration(report | {"network": a.trained_network()})
                run.save()  # last: a kill before it does the iteration, and its report, again
        return a.trained_network().cpu().eval()


class _Run:
    """One training run and its place on disk."""

    def __init__(
        self, algorithm: SessionDQN, config: TrainingConfig, seed: int, checkpoint_dir: Path
    ) -> None:
        self._algorithm, self._config, self._seed = algorithm, config, seed
        self._checkpoint_dir, self._iteration = checkpoint_dir, 0

    def resume(self) -> None:
        found = load_newest(self._checkpoint_dir)
        if found is None:
            return
        manifest, state = found
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
        """Write a checkpoint, where one is due."""
        done = self._algorithm.num_env_steps >= self._config.num_env_steps
        if not done and self._iteration % self._config.checkpoint_every:
            return
        config = dataclasses.asdict(self._config)
        state = self._algorithm.training_state()
        save_checkpoint(self._checkpoint_dir, self._iteration, state, config, self._seed)
        keep_newest(self._checkpoint_dir, self._config.keep_checkpoints)


def _check_same(manifest: Manifest, config: TrainingConfig, seed: int) -> None:
    ours = dataclasses.asdict(config) | {"seed": seed}
    theirs = manifest.config | {"seed": manifest.seed}
    differ = [k for k in ours if ours[k] != theirs.get(k) and k not in _MAY_CHANGE]
    if differ:
        raise ConfigError(
            "the checkpoints here are of other settings",
            got={name: ours[name] for name in differ},
            expected={name: theirs.get(name) for name in differ},
            mend="go on with the same settings, or start in another folder",
        )


@contextmanager
def _algorithm(problem: SessionProblem, config: TrainingConfig, seed: int) -> Iterator[SessionDQN]:
    with quiet_rllib():
        settings = SessionDQNConfig().session(problem=problem, settings=config, seed=seed)
        algorithm = cast(SessionDQN, settings.build_algo())
        try:
            yield algorithm
        finally:
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
