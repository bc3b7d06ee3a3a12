"""The place of an external model, and its copy in an artifact."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from recomind.adapters.config import ExternalConfig, ExternalKind
from recomind.adapters.lightgbm_text import booster_files
from recomind.errors import ArtifactError, ConfigError


def model_path(config: ExternalConfig, folder: Path | None = None) -> Path:
    """The absolute path of the model of `config`.

    Args:
        config: its path is the user's own, or relative to `folder`.
        folder: an artifact, outside of which nothing is read.

    Raises:
        ConfigError: the user's path does not exist, or is a folder where the kind needs a file.
        ArtifactError: a path that leads out of `folder`, or does not exist there.
    """
    if folder is None:
        path = Path(config.path).expanduser().resolve()
        _require(config, path)
        return path
    path = (Path(folder) / config.path).resolve()
    if not path.is_relative_to(Path(folder).resolve()):
        raise ArtifactError("an artifact may not name files outside its folder", got=config.path)
    if not path.exists():
        raise ArtifactError("damaged artifact: its external model is absent", got=path)
    return path


def _require(config: ExternalConfig, path: Path) -> None:
    folder_will_do = config.kind is ExternalKind.lightgbm
    if path.is_file() or (folder_will_do and path.is_dir()):
        return
    raise ConfigError(
        "ranker.external.path does not exist" if not path.exists() else "ranker.external.path",
        got=path,
        expected="a folder of <task>.txt, or a file" if folder_will_do else "a file",
    )


def copy_model(config: ExternalConfig, staging: Path) -> ExternalConfig:
    """Copy the model of `config` into an artifact that is being written.

    Args:
        config: of the user, or of a loaded ranker.
        staging: the artifact's folder.

    Returns:
        `config` with its path relative to the artifact.

    Raises:
        ConfigError: there is no such model.
    """
    path = model_path(config)
    target = _free_folder(staging)
    lightgbm = config.kind is ExternalKind.lightgbm
    files = booster_files(config, path) if lightgbm else [path]
    for file in files:
        shutil.copyfile(file, target / file.name)
    target = target / path.name if path.is_file() else target
    return replace(config, path=target.relative_to(staging).as_posix())


def _free_folder(staging: Path) -> Path:
    """A new folder for the model: two models may have files of one name."""
    names = ["external"] + [f"external_{index}" for index in range(1, 100)]
    folder = next(staging / name for name in names if not (staging / name).exists())
    folder.mkdir(parents=True)
    return folder
