"""Trains the towers on sessions, indexes all items, measures, and writes the artifact.

Symbols: `B` states, `K` nearest items.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recomind.artifacts import Manifest
from recomind.data import SessionDataset
from recomind.devices import CPU
from recomind.retrieval.build import OnItems
from recomind.retrieval.config import RetrievalConfig
from recomind.retrieval.index import ItemIndex
from recomind.retrieval.recall import choose_nprobe, exact_search, recall
from recomind.retrieval.retrieval import KIND, Retrieval, index_items, load_retrieval
from recomind.retrieval.targets import positive_rows
from recomind.retrieval.training import OnBatch, fit_towers
from recomind.streams import draw_rows, make_generator


def train_retrieval(
    dataset: SessionDataset,
    config: RetrievalConfig,
    folder: Path,
    *,
    inputs: Mapping[str, str] | None = None,
    manifest_config: Mapping[str, Any] | None = None,
    on_batch: OnBatch | None = None,
    on_items: OnItems | None = None,
    device: torch.device = CPU,
) -> Retrieval:
    """Train the towers, index every item, measure, and write the artifact.

    Args:
        dataset: sessions; positives of the first task in the split "train" are the targets.
        config: settings of towers and index.
        folder: where the artifact is written.
        inputs: name -> identity of the artifacts behind `dataset`.
        manifest_config: resolved config for the manifest; `config` itself where None.
        on_batch: called with each batch's loss.
        on_items: called with the number of indexed items.
        device: where the towers learn; the index is built on the processor.

    Returns:
        The artifact, as `load_retrieval` reads it.
    """
    model = fit_towers(dataset, config, on_batch, device)
    work = Path(folder).parent / f".{Path(folder).name}.build"
    retrieval = index_items(model, dataset.catalogue, config, work, on_items)
    manifest = Manifest(
        kind=KIND,
        seed=config.seed,
        config=dict(manifest_config or {"retrieval": dataclasses.asdict(config)}),
        inputs=dict(inputs or {}),
        metrics=measure(retrieval, dataset, config),
    )
    retrieval.save(folder, manifest)
    shutil.rmtree(work)
    return load_retrieval(folder, dataset.catalogue)


def measure(
    retrieval: Retrieval, dataset: SessionDataset, config: RetrievalConfig
) -> dict[str, float]:
    """`recall@k` of the index against exact search, and `hit_rate@k` of the towers.

    The recall is for the states' own query; first, `nprobe` is raised until the recall reaches
    `config.min_recall`, if it can.

    The hit rate is the share of positives whose item is among the k nearest to the state before
    it. Both use a sample of positives of the calibration split (of "train" where it has none).
    """
    if not config.num_recall_queries:
        return {}
    rows = _sample_rows(dataset, config)
    k = min(config.recall_at, retrieval.num_items)
    query_BD = retrieval.query(dataset.state(rows))
    true_BK = exact_search(query_BD, retrieval.item_vectors, retrieval.num_items, k)
    if isinstance(retrieval.index, ItemIndex):
        choose_nprobe(retrieval.index, query_BD, true_BK, config)
    found_BK = retrieval.index.search(query_BD, k)
    near_BK = retrieval.nearest(dataset.state(rows), k)
    hits = (near_BK == dataset.item_id(rows)[:, None]).any(1).float().mean()
    return {f"recall@{k}": recall(found_BK, true_BK), f"hit_rate@{k}": float(hits)}


def _sample_rows(dataset: SessionDataset, config: RetrievalConfig) -> Tensor:
    late = dataset.rows("calibration", holdout=False)
    has_late = len(late) and bool((dataset.labels(late)[:, 0] > 0).any())
    rows = positive_rows(dataset, "calibration" if has_late else "train")
    return draw_rows(rows, config.num_recall_queries, make_generator(config.seed + 1))
