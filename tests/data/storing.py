"""Tables of items, and processes that write and read a catalogue store; no table at import."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from recomind.data import CatalogueStore, add_items, change_items, withdraw_items
from recomind.data import catalogue_writer as writer_module

NUM, DIM = 1_000, 6
NUM_VERSIONS = 15


def table(ids: np.ndarray, seed: int = 0) -> pl.DataFrame:
    draws, num = np.random.default_rng(seed), len(ids)
    return pl.DataFrame(
        {
            "embedding": draws.standard_normal((num, DIM)).astype(np.float32),
            "tag": draws.integers(0, 5, num).astype(np.uint8),
            "rate": draws.standard_normal(num).astype(np.float32),
            "age": draws.integers(-9, 9, num),
            "item_id": ids,
            "unused": ["x"] * num,
        }
    )


def grow(folder: Path, path: Path) -> None:
    """Add 400 items at a time, whose content says where they begin."""
    writer_module.CHUNK_ROWS = 300
    while True:
        begin = CatalogueStore(folder).num_items
        table(np.arange(begin, begin + 400), seed=begin).write_parquet(path)
        add_items(folder, path)


def change_pairs(folder: Path, path: Path) -> None:
    """Version v gives items 0 and 999 the age v - 1."""
    for version in range(1, NUM_VERSIONS):
        rows = table(np.array([0, 999])).with_columns(age=pl.lit(version), rate=pl.lit(0.5))
        rows.write_parquet(path)
        change_items(folder, path)


def read_pairs(folder: Path) -> None:
    """Never see one item of a pair without the other."""
    store, last, deadline = CatalogueStore(folder), 1, time.monotonic() + 60
    while last < NUM_VERSIONS:
        assert time.monotonic() < deadline
        store.refresh()
        dense = store.features(torch.tensor([0, 999])).dense
        assert store.version == 1 or dense[:, 0].tolist() == [store.version - 1] * 2
        assert store.version >= last
        last = store.version


def withdraw_many(folder: Path, first: int) -> None:
    """Withdraw 20 items, a version each."""
    for item in range(first, first + 20):
        withdraw_items(folder, torch.tensor([item]))
