"""Checkpoints of a training run: nested state as safetensors and JSON, never a pickle.

A checkpoint is an artifact folder `iteration-00000040` with `tensors.safetensors` (every array of
the state) and `tree.json` (the rest, with references to the arrays). It is written under another
name and renamed, so a run continues from the newest folder that reads back whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from recomind.artifacts import (
    MANIFEST,
    READABLE_VERSIONS,
    Manifest,
    load_tensors,
    read_json,
    read_manifest,
    reading,
    save_tensors,
    write_artifact,
    write_json,
)
from recomind.errors import ArtifactError, DiskFullError
from recomind.types import Catalogue

KIND = "training_checkpoint"
_TENSORS, _TREE = "tensors.safetensors", "tree.json"
_NUM_PROBED = 1024
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
    folder: Path,
    iteration: int,
    state: dict[str, Any],
    config: dict[str, Any],
    seed: int,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write the state after `iteration`, whole or not at all.

    Args:
        folder: folder of all checkpoints of the run.
        iteration: the last finished one.
        state: numbers, strings and arrays, nested.
        config: settings of the run.
        seed: seed of the run.
        inputs: name -> identity of the training's inputs.

    Returns:
        The checkpoint's folder.

    Raises:
        ArtifactError: it cannot be written, such as on a full disk; earlier ones are intact.
    """
    path = Path(folder) / f"iteration-{iteration:08d}"
    manifest = Manifest(
        kind=KIND,
        seed=seed,
        config=config,
        inputs=dict(inputs or {}),
        extra={"iteration": iteration},
    )
    try:
        with write_artifact(path, manifest) as staging:
            tensors: dict[str, Tensor] = {}
            write_json(staging / _TREE, flatten(state, tensors))
            save_tensors(staging / _TENSORS, tensors)
    except (OSError, SafetensorError, DiskFullError) as error:
        raise ArtifactError(
            "a checkpoint cannot be written; earlier ones are intact",
            got=f"{path}: {error}",
            mend="free disk space; the same command continues from the last checkpoint",
        ) from error
    return path


def catalogue_identity(catalogue: Catalogue) -> str:
    """Sha256 over a catalogue's shape and the features of 1,024 items spread over it."""
    num = catalogue.num_items
    features = catalogue.features(torch.arange(0, num, max(1, num // _NUM_PROBED)))
    shape = [num, catalogue.dense_names, catalogue.categorical_names, catalogue.vocab_sizes]
    digest = hashlib.sha256(json.dumps(shape).encode())
    for tensor in (features.dense, features.categorical):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_checkpoint(path: Path) -> tuple[Manifest, dict[str, Any]]:
    """What `save_checkpoint` wrote.

    Raises:
        ArtifactError: it is not whole.
    """
    manifest = read_manifest(path, KIND)
    with reading("checkpoint", path):
        tree = unflatten(read_json(path / _TREE), load_tensors(path / _TENSORS, finite=False))
    return manifest, tree


def load_newest(folder: Path) -> tuple[Manifest, dict[str, Any]] | None:
    """The newest intact checkpoint, or None; damaged ones are skipped with a warning.

    Raises:
        ArtifactError: it has another format version.
    """
    for path in reversed(_paths(folder)):
        _refuse_other_version(path)
        try:
            return load_checkpoint(path)
        except ArtifactError as error:
            _log.warning("skipping a checkpoint: %s", error)
    return None


def _refuse_other_version(path: Path) -> None:
    """Damage is skipped, but a run of another version must not silently start over."""
    try:
        version = read_json(path / MANIFEST)["format_version"]
    except (ArtifactError, TypeError, LookupError):
        return
    if isinstance(version, int) and version not in READABLE_VERSIONS:
        raise ArtifactError(
            "the checkpoint has another format version",
            got=f"{version} in {path}",
            expected=f"one of {', '.join(map(str, READABLE_VERSIONS))}",
            mend=f"go on with the version that wrote it, or remove {path.parent} and start anew",
        )


def keep_newest(folder: Path, num: int) -> None:
    """Remove all but the `num` newest checkpoints, and leftovers of killed writers."""
    for path in [*_paths(folder)[:-num], *Path(folder).glob(".iteration-*.tmp")]:
        shutil.rmtree(path)


def _paths(folder: Path) -> list[Path]:
    return sorted(Path(folder).glob("iteration-*"))
