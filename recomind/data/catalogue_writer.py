"""Building and changing a catalogue store from Parquet, chunk by chunk.

Symbols: `n` rows of a chunk, `E` length of an embedding.

A table has a column `item_id` (integers), one column a feature, and `embedding` (lists of `E`
numbers) where the store keeps some. Every change makes a version; writers take turns by a lock.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from recomind.artifacts import holding, reading, sync_folder, write_json
from recomind.data.catalogue_format import (
    CHANGED,
    CURRENT,
    FORMAT,
    ITEMS,
    VERSIONS,
    WITHDRAWN,
    StoreFormat,
    StoreVersion,
    column_path,
    format_json,
    version_digest,
    version_path,
)
from recomind.data.catalogue_rows import check_rows, encoded
from recomind.data.catalogue_store import CatalogueStore
from recomind.data.parquet import scan_checked
from recomind.errors import ArtifactError, SchemaError

CHUNK_ROWS = 262_144  # rows in memory at once
_LOCK = ".lock"

OnRows = Callable[[int, int], None]  # rows done, rows in all


def create_catalogue_store(folder: Path, form: StoreFormat) -> CatalogueStore:
    """An empty store at version 0.

    Raises:
        ArtifactError: there is one in `folder` already.
    """
    folder = Path(folder)
    if (folder / CURRENT).exists():
        raise ArtifactError("there is a catalogue here already", got=folder)
    for part in (ITEMS, CHANGED, WITHDRAWN, VERSIONS):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_json(folder / FORMAT, format_json(form))
    _publish(folder, StoreVersion(version=0), [])
    return CatalogueStore(folder)


def add_items(folder: Path, parquet: Path, on_rows: OnRows | None = None) -> CatalogueStore:
    """Add the items of a Parquet file; their ids go on where the store's end, in order.

    Raises:
        SchemaError: a column is absent, ids that repeat, leave a gap or are known already, or a
            value that is not finite, outside its vocabulary, or a zero embedding.
    """
    return _from_parquet(Path(folder), ITEMS, Path(parquet), on_rows)


def change_items(folder: Path, parquet: Path, on_rows: OnRows | None = None) -> CatalogueStore:
    """Give items of the store new content.

    Raises:
        SchemaError: as `add_items`; an id that is not in the catalogue, or was withdrawn.
    """
    return _from_parquet(Path(folder), CHANGED, Path(parquet), on_rows)


def withdraw_items(folder: Path, item_id: Tensor) -> CatalogueStore:
    """Withdraw `item_id` [n] int64 for good; those that were withdrawn already stay so.

    Raises:
        SchemaError: an id that is not in the catalogue.
    """
    with _writing(Path(folder)) as store:
        gone = item_id.unique()
        gone = gone[~store.is_withdrawn(gone)].numpy()
        writer = _Appender(store, WITHDRAWN)
        writer.append({"item_id": gone[:, None]})
        writer.publish()
    return CatalogueStore(Path(folder))


def _from_parquet(folder: Path, part: str, parquet: Path, on_rows: OnRows | None) -> CatalogueStore:
    with _writing(folder) as store:
        writer, seen = _Appender(store, part), np.zeros(0, dtype=np.int64)
        for table, done, total in _chunks(parquet):
            rows = encoded(table, store.format)
            ids = rows["item_id"][:, 0]
            if part == ITEMS:
                _check_next(ids, writer.num_rows)
                rows.pop("item_id")
            else:
                seen = _check_known(ids, store, seen)
            writer.append(rows)
            if on_rows is not None:
                on_rows(done, total)
        writer.publish()
    return CatalogueStore(folder)


@contextmanager
def _writing(folder: Path) -> Iterator[CatalogueStore]:
    """The newest version, while no other process writes."""
    store = CatalogueStore(folder)
    with holding(folder / _LOCK):
        store.refresh()
        yield store


class _Appender:
    """Adds rows behind those of a version, and makes them the next version."""

    def __init__(self, store: CatalogueStore, part: str) -> None:
        self._store, self._part, self._chunks = store, part, list[dict[str, Any]]()
        self._begin = self.num_rows = store._at.rows(part)
        self._cut()

    def _cut(self) -> None:
        """Drop what a killed writer left behind the last row."""
        for name, (dtype, width) in self._store.format.columns(self._part).items():
            path = column_path(self._store.folder, self._part, name)
            path.touch()
            os.truncate(path, self.num_rows * width * np.dtype(dtype).itemsize)

    def append(self, rows: dict[str, np.ndarray]) -> None:
        for name, (dtype, _) in self._store.format.columns(self._part).items():
            path = column_path(self._store.folder, self._part, name)
            content = np.ascontiguousarray(rows[name], dtype=dtype).tobytes()
            begin = path.stat().st_size
            with path.open("ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._chunks.append(
                {
                    "file": path.relative_to(self._store.folder).as_posix(),
                    "begin": begin,
                    "end": begin + len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            )
        self.num_rows += len(next(iter(rows.values())))

    def publish(self) -> None:
        if self.num_rows == self._begin:
            return
        at = dataclasses.replace(self._store._at, version=self._store.version + 1)
        setattr(at, self._part, self.num_rows)
        _publish(self._store.folder, at, self._chunks)


def _publish(folder: Path, at: StoreVersion, chunks: list[dict[str, Any]]) -> None:
    before = version_digest(folder, at.version - 1) if at.version else ""
    content = dataclasses.asdict(at) | {"before": before, "chunks": chunks}
    write_json(version_path(folder, at.version), content)
    digest = version_digest(folder, at.version)
    write_json(folder / CURRENT, {"version": at.version, "digest": digest})
    sync_folder(folder)


def _chunks(parquet: Path) -> Iterator[tuple[pl.DataFrame, int, int]]:
    """Tables of at most `CHUNK_ROWS` rows, how many rows they end, how many there are."""
    lazy = scan_checked(parquet, "table of items")
    with reading("table of items", parquet):
        total = int(lazy.select(pl.len()).collect().item())
    for begin in range(0, total, CHUNK_ROWS):
        with reading("table of items", parquet):
            chunk = lazy.slice(begin, CHUNK_ROWS).collect()
        yield chunk, min(begin + CHUNK_ROWS, total), total


def _check_next(ids: np.ndarray, first: int) -> None:
    expected = np.arange(first, first + len(ids))
    wrong = (ids != expected).nonzero()[0]
    if len(wrong):
        got, wanted = int(ids[wrong[0]]), int(expected[wrong[0]])
        raise SchemaError(
            "new items whose ids do not go on where the catalogue ends",
            got=f"{got}, which is there already" if 0 <= got < wanted else got,
            expected=wanted,
            mend="number new items on, in ascending order, each once",
        )


def _check_known(ids: np.ndarray, store: CatalogueStore, seen: np.ndarray) -> np.ndarray:
    """The ids changed so far, these included."""
    outside = (ids < 0) | (ids >= store.num_items)
    check_rows(outside[:, None], ids[:, None], f"ids outside the catalogue of {store.num_items}")
    gone = np.isin(ids, store._withdrawn.numpy())
    check_rows(gone[:, None], ids[:, None], "ids that were withdrawn")
    values, count = np.unique(np.concatenate([seen, ids]), return_counts=True)
    check_rows((count > 1)[:, None], values[:, None], "ids that come twice")
    return values
