"""Checks of the settings of an external ranker, alone and against the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from recomind.adapters.batches import RowBatch
from recomind.adapters.config import ExternalConfig, ExternalKind
from recomind.errors import ConfigError, did_you_mean
from recomind.plugins import resolve


def inputs_function(config: ExternalConfig) -> Callable[[RowBatch], Any] | None:
    """The user's function from rows to the model's inputs; None where none is named.

    Raises:
        ConfigError: it is not allowed, cannot be imported, or is no function.
    """
    if not config.inputs:
        return None
    function = resolve(config.inputs, setting="ranker.external.inputs")
    if not callable(function):
        raise ConfigError(
            "ranker.external.inputs is no function",
            got=f"{type(function).__name__} {config.inputs}",
            expected="(RowBatch) -> what the model takes",
        )
    return function


def require_settings(config: ExternalConfig) -> None:
    """Raise ConfigError unless `config` says all that its kind needs."""
    if config.kind is ExternalKind.none:
        kinds = [kind.value for kind in ExternalKind if kind is not ExternalKind.none]
        raise ConfigError("no external ranker", got="ranker.external.kind=none", expected=kinds)
    needed = ["path", "tasks"] + ["factory"] * (config.kind is ExternalKind.torch)
    for name in needed:
        if not getattr(config, name):
            raise ConfigError(
                f"ranker.external.{name} is not given",
                expected=f"a value, for ranker.external.kind={config.kind.value}",
            )
    if len(set(config.tasks)) < len(config.tasks):
        raise ConfigError("ranker.external.tasks names a task twice", got=list(config.tasks))


def require_tasks(config: ExternalConfig, tasks: Sequence[str]) -> None:
    """Raise ConfigError unless the log, whose tasks are `tasks`, has every external task."""
    for task in config.tasks:
        if task not in tasks:
            raise ConfigError(
                "ranker.external.tasks names a task that the log does not have",
                got=task,
                expected=f"of {list(tasks)}",
                mend=did_you_mean(task, tasks),
            )
