"""Ranker ensembles on disk, and their quality on later days."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from recomind.artifacts import (
    Manifest,
    load_tensors,
    read_manifest,
    save_tensors,
    write_artifact,
)
from recomind.data import TableCatalogue
from recomind.errors import ArtifactError
from recomind.ranker.calibration import calibration_curve
from recomind.ranker.config import RankerConfig
from recomind.ranker.model import SessionRanker

KIND = "ranker"
_ECE_BINS = 15


def save_rankers(
    folder: Path, rankers: Sequence[SessionRanker], catalogue: TableCatalogue, manifest: Manifest
) -> None:
    """Write an ensemble with the catalogue that it was trained on."""
    first = rankers[0]
    manifest.kind = KIND
    manifest.extra = manifest.extra | {
        "tasks": list(first.tasks),
        "num_user_features": first.num_user_features,
        "num_members": len(rankers),
        "ranker_config": dataclasses.asdict(first.config),
    }
    with write_artifact(folder, manifest) as staging:
        catalogue.save(staging)
        for index, ranker in enumerate(rankers):
            save_tensors(staging / f"member_{index}.safetensors", ranker.state_dict())


def load_rankers(folder: Path) -> list[SessionRanker]:
    """Read an ensemble, ready to score.

    Raises:
        ArtifactError: absent, damaged, or weights that do not fit the recorded config.
    """
    manifest = read_manifest(folder, KIND)
    extra, catalogue = manifest.extra, TableCatalogue.load(folder)
    rankers = []
    for index in range(extra["num_members"]):
        ranker = SessionRanker(
            catalogue,
            tuple(extra["tasks"]),
            extra["num_user_features"],
            RankerConfig(**extra["ranker_config"]),
        )
        load_weights(ranker, Path(folder) / f"member_{index}.safetensors")
        rankers.append(ranker.precompute_items())
    return rankers


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Load safetensors into a module, or raise an ArtifactError that says what differs."""
    try:
        module.load_state_dict(load_tensors(path))
    except RuntimeError as error:
        raise ArtifactError("weights do not fit the model", got=f"{path}: {error}") from error


def quality(logits: Tensor, labels: Tensor, tasks: Sequence[str]) -> dict[str, float]:
    """AUC, log-loss (nats), ECE and positive rate per task, over logits [R, H].

    A task with labels of one kind only has no AUC and is left out.
    """
    metrics: dict[str, float] = {}
    probability = logits.double().sigmoid()
    for column, task in enumerate(tasks):
        p, y = probability[:, column].numpy(), labels[:, column].numpy()
        if len(y) == 0 or y.min() == y.max():
            continue
        clipped = np.clip(p, 1e-7, 1 - 1e-7)
        metrics[f"auc.{task}"] = float(roc_auc_score(y, p))
        metrics[f"log_loss.{task}"] = float(
            -(y * np.log(clipped) + (1 - y) * np.log(1 - clipped)).mean()
        )
        curve = calibration_curve(probability[:, column], labels[:, column].bool(), _ECE_BINS)
        metrics[f"ece.{task}"] = curve["ece"]
        metrics[f"rate.{task}"] = float(y.mean())
    return metrics
