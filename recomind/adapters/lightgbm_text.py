"""LightGBM boosters from text files: one per task, no gradients anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from recomind.adapters.config import ExternalConfig, OutputKind
from recomind.artifacts.boosters import read_booster
from recomind.errors import ConfigError


def booster_files(config: ExternalConfig, path: Path) -> list[Path]:
    """The file of each task: `<task>.txt` in a folder, or the one file of the one task.

    Raises:
        ConfigError: several tasks and one file, or a task without one.
    """
    if path.is_file() and len(config.tasks) > 1:
        raise ConfigError(
            "one LightGBM file for several tasks",
            got=f"{path} for {config.tasks}",
            expected="a folder with a <task>.txt for each task",
        )
    files = [path] if path.is_file() else [path / f"{task}.txt" for task in config.tasks]
    for file in files:
        if not file.is_file():
            raise ConfigError("a task without a LightGBM file", got="none", expected=file)
    return files


def load_boosters(config: ExternalConfig, path: Path) -> Callable[[Any], np.ndarray]:
    """A function [R, F] -> [R, H]; raw scores where the config says logits.

    Raises:
        ConfigError: a task without a file.
        ArtifactError: a file that is no booster.
    """
    boosters = [read_booster(file) for file in booster_files(config, path)]
    raw = config.output is OutputKind.logits

    def run(inputs: Any) -> np.ndarray:
        rows = inputs.numpy() if isinstance(inputs, Tensor) else inputs
        columns = [b.predict(rows, raw_score=raw, num_threads=1) for b in boosters]
        return np.stack([np.asarray(column) for column in columns], axis=-1)

    return run
