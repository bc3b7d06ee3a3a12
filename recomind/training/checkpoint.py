"""Checkpoints of a training run: nested state as safetensors and JSON, never a pickle.

A checkpoint is an artifact folder `iteration-00000040` with `tensors.safetensors` (every array of
the state) and `tree.json` (the rest, with references to the arrays). It is written under another
name and renamed, so the newest folder that reads back whole is where a run goes on.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recomind.artifacts import (
    Manifest,
    load_tensors,
    read_manifest,
    save_tensors,
    write_artifact,
    write_json,
)
from recomind.errors import ArtifactError

KIND = "training_checkpoint"
_TENSORS, _TREE = "tensors.safetensors", "tree.json"
_log = logging.getLogger(__name__)


def flatten(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON form of `tree`; its arrays go to `tensors`, under running numbers.

    >>> found = {}
    >>> flatten({"a": np.zeros(2), 0: [1, None]}, found)
    {'map': [['a', {'tensor': '0'}], [0, {'list': [1, None]}]]}
    >>> found["0"].shape
    torch.Size([2])
    """
    if isinstance(tree, (np.ndarray, np.generic, Tensor)):
        name = str(len(tensors))
        array = tree if isinstance(tree, Tensor) else torch.from_numpy(np.array(tree))
        tensors[name] = array.detach().cpu()
        return {"tensor": name}
    if isinstance(tree, dict):
        return {"map": [[key, flatten(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        kind = "list" if isinstance(tree, list) else "tuple"
        return {kind: [flatten(value, tensors) for value in tree]}
    return tree


def unflatten(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Inverse of `flatten`; arrays come back as numpy."""
    if not isinstance(tree, dict):
        return tree
    kind, value = next(iter(tree.items()))
    if kind == "tensor":
        return tensors[value].numpy()
    if kind == "map":
        return {key: unflatten(item, tensors) for key, item in value}
    items = [unflatten(item, tensors) for item in value]
    return items if kind == "list" else tuple(items)


def save_checkpoint(
    folder: Path, iteration: int, state: dict[str, Any], config: dict[str, Any], seed: int
) -> Path:
    """Write the state after `iteration`; half a checkpoint never exists."""
    path = Path(folder) / f"iteration-{iteration:08d}"
    manifest = Manifest(kind=KIND, seed=seed, config=config, extra={"iteration": iteration})
    with write_artifact(path, manifest) as staging:
        tensors: dict[str, Tensor] = {}
        write_json(staging / _TREE, flatten(state, tensors))
        save_tensors(staging / _TENSORS, tensors)
    return path


def load_checkpoint(path: Path) -> tuple[Manifest, dict[str, Any]]:
    """What `save_checkpoint` wrote.

    Raises:
        ArtifactError: it is not whole.
    """
    manifest = read_manifest(path, KIND)
    try:
        tree = json.loads((path / _TREE).read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError("unreadable checkpoint", got=f"{path}: {error}") from error
    return manifest, unflatten(tree, load_tensors(path / _TENSORS))


def load_newest(folder: Path) -> tuple[Manifest, dict[str, Any]] | None:
    """The newest whole checkpoint, or None; damaged ones are passed over with a warning."""
    for path in reversed(_paths(folder)):
        try:
            return load_checkpoint(path)
        except ArtifactError as error:
            _log.warning("passing over a checkpoint: %s", error)
    return None


def keep_newest(folder: Path, num: int) -> None:
    """Remove all but the `num` newest checkpoints."""
    for path in _paths(folder)[:-num]:
        shutil.rmtree(path)


def _paths(folder: Path) -> list[Path]:
    return sorted(Path(folder).glob("iteration-*"))
