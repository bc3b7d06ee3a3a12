"""The nearest items to a state: towers and index together, and their artifact.

index.faiss             item vectors, searchable
towers.safetensors      weights of both towers
manifest.json           kind "index"; extra holds the towers' shape, `num_items` and `nprobe`
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recomind.artifacts import (
    Manifest,
    load_tensors,
    read_manifest,
    save_tensors,
    write_artifact,
)
from recomind.data import SessionDataset
from recomind.errors import ArtifactError
from recomind.retrieval.config import RetrievalConfig
from recomind.retrieval.index import ItemIndex, build_index, exact_search, load_index, recall
from recomind.retrieval.training import OnBatch, fit_towers, positive_rows
from recomind.retrieval.two_tower import TowerShape, TwoTower, item_vectors, user_vectors
from recomind.streams import make_generator
from recomind.types import Catalogue, SessionState

KIND, INDEX, TOWERS = "index", "index.faiss", "towers.safetensors"


class Retrieval:
    """Finds the items nearest to a state.

    Args:
        model: both towers.
        index: over the vectors of all items of `catalogue`.
        catalogue: the items, as they are known now.

    Raises:
        ArtifactError: the index holds another number of items, or vectors of another length.
        SchemaError: the catalogue has other features than the towers were trained on.
    """

    def __init__(self, model: TwoTower, index: ItemIndex, catalogue: Catalogue) -> None:
        model.shape.check_catalogue(catalogue)
        if index.num_items != catalogue.num_items or index.dim != model.shape.dim:
            raise ArtifactError(
                "index of another catalogue or model",
                got=f"{index.num_items} items of length {index.dim}",
                expected=f"{catalogue.num_items} items of length {model.shape.dim}",
                mend="build the index anew from this catalogue",
            )
        self.model, self.index, self.catalogue = model.eval(), index, catalogue
        self.num_items = catalogue.num_items

    @torch.no_grad()
    def item_vectors(self, item_id: Tensor) -> Tensor:
        """Unit vectors [..., D] of `item_id` [...]."""
        return item_vectors(self.model, self.catalogue, item_id)

    @torch.no_grad()
    def query(self, state: SessionState) -> Tensor:
        """Unit query vectors [B, D] of `state` [B], on the CPU, where the towers are."""
        if state.step.device.type != "cpu":
            state = state.to("cpu")
        return user_vectors(self.model, self.catalogue, state)

    def nearest(self, state: SessionState, num: int) -> Tensor:
        """Ids [B, num] int64, best first; -1 where the index found fewer."""
        return self.index.search(self.query(state), num)

    def save(self, folder: Path, manifest: Manifest) -> None:
        """Write the artifact; `manifest` is completed with what `load_retrieval` needs."""
        manifest.kind = KIND
        manifest.extra |= {
            "towers": dataclasses.asdict(self.model.shape),
            "num_items": self.num_items,
            "nprobe": self.index.nprobe,
        }
        with write_artifact(folder, manifest) as staging:
            save_tensors(staging / TOWERS, self.model.state_dict())
            self.index.save(staging / INDEX)


def train_retrieval(
    dataset: SessionDataset,
    config: RetrievalConfig,
    folder: Path,
    *,
    inputs: Mapping[str, str] | None = None,
    manifest_config: Mapping[str, Any] | None = None,
    on_batch: OnBatch | None = None,
) -> Retrieval:
    """Train the towers, index every item, measure, and write the artifact.

    Args:
        dataset: sessions; positives of its first task in the split "train" are learned from.
        config: of towers and index.
        folder: where the artifact goes.
        inputs: name -> identity of the artifacts that `dataset` came from.
        manifest_config: resolved config to keep; `config` itself where None.
        on_batch: told of each batch's loss.

    Returns:
        What `load_retrieval` would read back.
    """
    model = fit_towers(dataset, config, on_batch)
    retrieval = index_items(model, dataset.catalogue, config)
    manifest = Manifest(
        kind=KIND,
        seed=config.seed,
        config=dict(manifest_config or {"retrieval": dataclasses.asdict(config)}),
        inputs=dict(inputs or {}),
        metrics=measure(retrieval, dataset, config),
    )
    retrieval.save(folder, manifest)
    return retrieval


def index_items(model: TwoTower, catalogue: Catalogue, config: RetrievalConfig) -> Retrieval:
    """An index over the model's vectors of all items, and the search it gives."""

    @torch.no_grad()
    def vectors_of(item_id: Tensor) -> Tensor:
        return item_vectors(model, catalogue, item_id)

    return Retrieval(model, build_index(vectors_of, catalogue.num_items, config), catalogue)


def measure(
    retrieval: Retrieval, dataset: SessionDataset, config: RetrievalConfig
) -> dict[str, float]:
    """`recall@k` of the index against exact search, and `hit_rate@k` of the towers.

    The hit rate is the share of positives whose item is among the k nearest to the state before
    it. Both on a sample of the positives of the split "calibration" ("train" where it has none).
    """
    if not config.num_recall_queries:
        return {}
    rows = _sample_rows(dataset, config)
    k = min(config.recall_at, retrieval.num_items)
    query_BD = retrieval.query(dataset.state(rows))
    found_BK = retrieval.index.search(query_BD, k)
    true_BK = exact_search(query_BD, retrieval.item_vectors, retrieval.num_items, k)
    hits = (found_BK == dataset.item_id(rows)[:, None]).any(1).float().mean()
    return {f"recall@{k}": recall(found_BK, true_BK), f"hit_rate@{k}": float(hits)}


def _sample_rows(dataset: SessionDataset, config: RetrievalConfig) -> Tensor:
    late = dataset.rows("calibration", holdout=False)
    has_late = len(late) and bool((dataset.labels(late)[:, 0] > 0).any())
    rows = positive_rows(dataset, "calibration" if has_late else "train")
    order = torch.randperm(len(rows), generator=make_generator(config.seed + 1))
    return rows[order[: config.num_recall_queries]]


def load_retrieval(folder: Path, catalogue: Catalogue) -> Retrieval:
    """Read an artifact of kind "index" for `catalogue`.

    Raises:
        ArtifactError: absent, damaged, or of a catalogue with another number of items.
        SchemaError: the catalogue has other features than the towers were trained on.
    """
    folder = Path(folder)
    extra = read_manifest(folder, KIND).extra
    try:
        shape = TowerShape(**extra["towers"])
        model = TwoTower(shape, make_generator(0))
        model.load_state_dict(load_tensors(folder / TOWERS))
        nprobe = int(extra["nprobe"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError("unreadable towers", got=f"{folder}: {error}") from error
    return Retrieval(model, load_index(folder / INDEX, nprobe), catalogue)
