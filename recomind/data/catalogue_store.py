"""A catalogue on disk that processes map and share, and that changes without a rebuild.

Symbols: `N` items, `M` changes, `F` dense features, `C` categorical features, `E` length of an
embedding.

    folder/format.json           names, vocabularies, kind of embedding; never changes
    folder/items/dense.bin       [N, F] float32; the row is the item id
    folder/items/categorical.bin [N, C] int32; int64 where a vocabulary has more than 2^31 codes
    folder/items/embedding.bin   [N, E] float16, or int8 with items/scale.bin [N, 1] float32
    folder/changed/...           the same columns and item_id.bin [M]; the last row of an id counts
    folder/withdrawn/item_id.bin ids whose items are gone; their content stays for old histories
    folder/versions/00000007.json  how many rows each of the three has, and the hashes of new ones
    folder/CURRENT.json          {"version": 7, "digest": ...}, replaced in one step

Files only grow, and a version says how far: whoever has opened one sees no later change, and what a
killed writer left behind the last row is cut off by the next. `recomind.data.catalogue_writer`
writes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recomind.artifacts import read_json, reading, write_json
from recomind.data.catalogue_format import (
    CHANGED,
    CURRENT,
    ITEMS,
    WITHDRAWN,
    EmbeddingKind,
    StoreVersion,
    column_path,
    read_chunks,
    read_format,
    read_version,
    version_digest,
)
from recomind.data.item_ids import among, check_range
from recomind.errors import ArtifactError, SchemaError
from recomind.types import ItemFeatures

REFERENCE = "catalogue_store.json"  # in an artifact
MOVED = "RECOMIND_CATALOGUE"  # environment: the folder of a store that is not where it was


@dataclass(kw_only=True, slots=True)
class CatalogueChanges:
    """What happened between two versions; an item stands in one of the three."""

    added: Tensor  # [n] int64
    changed: Tensor  # [n] int64, distinct
    withdrawn: Tensor  # [n] int64


class CatalogueStore:
    """One version of a catalogue on disk; implements `recomind.types.Catalogue`.

    Args:
        folder: as `create_catalogue_store` made it.
        version: to open; the newest where it is None.

    Attributes:
        num_items: `N`, withdrawn items included: ids are 0 .. N - 1 and never used again.
        num_snapshots: 1; a store keeps no dated content.

    Raises:
        ArtifactError: absent, damaged, of another format version, or cut short.
    """

    num_snapshots = 1

    def __init__(self, folder: Path, version: int | None = None) -> None:
        self.folder, self.format = Path(folder), read_format(Path(folder))
        self.dense_names = tuple(self.format.dense_names)
        self.categorical_names = tuple(self.format.categorical_names)
        self.vocab_sizes = tuple(self.format.vocab_sizes)
        self._open(read_version(self.folder, version))

    @property
    def version(self) -> int:
        """Counts up with every change."""
        return self._at.version

    def refresh(self) -> bool:
        """Turn to the newest version; whether there was a newer one."""
        newest = read_version(self.folder, None)
        if newest.version == self.version:
            return False
        self._open(newest)
        return True

    def features(self, item_id: Tensor, snapshot: Tensor | None = None) -> ItemFeatures:
        """Content of `item_id` [...]; of one version, whatever the snapshot.

        Raises:
            SchemaError: an id that is not in the catalogue.
        """
        dense, categorical = self._gather(item_id, "dense", "categorical")
        return ItemFeatures(dense=dense, categorical=categorical.long())

    def embeddings(self, item_id: Tensor) -> Tensor:
        """Float32 embeddings [..., E] of `item_id` [...].

        Raises:
            SchemaError: an id that is not in the catalogue, or a catalogue without embeddings.
        """
        if not self.format.embedding_dim:
            raise SchemaError("a catalogue without embeddings", got=self.folder)
        if self.format.embedding is EmbeddingKind.float16:
            return self._gather(item_id, "embedding")[0].float()
        narrow, scale = self._gather(item_id, "embedding", "scale")
        return narrow.float() * scale

    def is_withdrawn(self, item_id: Tensor) -> Tensor:
        """[...] bool."""
        check_range(item_id, self.num_items, "item id")
        return among(item_id, self._withdrawn)

    def changes_since(self, version: int) -> CatalogueChanges:
        """What is other than in an earlier version.

        Raises:
            ArtifactError: a version that never was.
        """
        old, now = read_version(self.folder, version), self._at
        withdrawn = _tensor(self._rows(WITHDRAWN, "item_id", old.withdrawn))
        changed = _tensor(self._rows(CHANGED, "item_id", old.changed)).unique()
        changed = changed[(changed < old.items) & ~torch.isin(changed, withdrawn)]
        added = torch.arange(old.items, now.items)
        added = added[~torch.isin(added, withdrawn)]
        return CatalogueChanges(added=added, changed=changed, withdrawn=withdrawn)

    def save(self, folder: Path) -> None:
        """Write where the store is and which version, not its rows, into `folder`."""
        reference = {
            "folder": str(self.folder.resolve()),
            "version": self.version,
            "sha256": version_digest(self.folder, self.version),
        }
        write_json(Path(folder) / REFERENCE, reference)

    @classmethod
    def load(cls, folder: Path) -> CatalogueStore:
        """The store and version that `save` referred to.

        A store that has moved is looked for where the environment's `RECOMIND_CATALOGUE` says.

        Raises:
            ArtifactError: it is not there, or another catalogue is.
        """
        path = Path(folder) / REFERENCE
        with reading("catalogue", folder):
            reference = read_json(path, "catalogue")
            version, digest = int(reference["version"]), reference["sha256"]
            place = Path(os.environ.get(MOVED) or reference["folder"])
        if not (place / CURRENT).is_file():
            raise ArtifactError(
                "the catalogue store is not where the artifact says",
                got=place,
                mend=f"bring it back, or name its folder in {MOVED}",
            )
        if version_digest(place, version) != digest:
            raise ArtifactError(
                "another catalogue store than the artifact was made from",
                got=f"{place}, version {version}",
                mend=f"name the right folder in {MOVED}, or make the artifact anew",
            )
        return cls(place, version)

    def verify(self) -> None:
        """Raise an ArtifactError where a row is not the one that was written."""
        with reading("catalogue", self.folder):
            self._verify()

    def _verify(self) -> None:
        """The chunks of all versions are one behind another, up to the last row, and whole."""
        ends: dict[str, int] = {}
        for number in range(1, self.version + 1):
            for chunk in read_chunks(self.folder, number):
                if chunk["begin"] != ends.get(chunk["file"], 0):
                    raise ValueError(f"a gap in {chunk['file']}")
                ends[chunk["file"]] = chunk["end"]
                self._verify_chunk(chunk)
        for part in (ITEMS, CHANGED, WITHDRAWN):
            for name, (dtype, width) in self.format.columns(part).items():
                file = column_path(Path(), part, name).as_posix()
                if ends.get(file, 0) != self._at.rows(part) * width * np.dtype(dtype).itemsize:
                    raise ValueError(f"rows of {file} without a hash")

    def _verify_chunk(self, chunk: Mapping[str, Any]) -> None:
        path, digest = self.folder / chunk["file"], hashlib.sha256()
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError("a file outside the store")
        with path.open("rb") as file:
            file.seek(chunk["begin"])
            digest.update(file.read(chunk["end"] - chunk["begin"]))
        if digest.hexdigest() != chunk["sha256"]:
            raise ArtifactError(
                "damaged catalogue: rows differ from their recorded hash",
                got=f"{path}, bytes {chunk['begin']} to {chunk['end']}",
                mend="build the catalogue anew",
            )

    def _open(self, at: StoreVersion) -> None:
        with reading("catalogue", self.folder):
            self._map_all(at)

    def _map_all(self, at: StoreVersion) -> None:
        self._at, self.num_items = at, at.items
        self._maps = {
            part: {name: self._map(part, name) for name in self.format.columns(part)}
            for part in (ITEMS, CHANGED, WITHDRAWN)
        }
        self._withdrawn = _tensor(self._rows(WITHDRAWN, "item_id")).sort().values
        newest_first = self._rows(CHANGED, "item_id")[::-1]
        self._changed_id, place = np.unique(newest_first, return_index=True)
        self._changed_row = len(newest_first) - 1 - place

    def _map(self, part: str, name: str) -> np.ndarray:
        dtype, width = self.format.columns(part)[name]
        rows, path = self._at.rows(part), column_path(self.folder, part, name)
        size = path.stat().st_size if path.exists() else 0
        if size < rows * width * np.dtype(dtype).itemsize:
            raise ArtifactError(
                "damaged catalogue: a column is shorter than its version says",
                got=f"{size} bytes in {path}",
                expected=f"{rows} rows of {width} x {dtype}",
            )
        if rows * width == 0:
            return np.zeros((rows, width), dtype=dtype)
        return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(rows, width)))

    def _rows(self, part: str, name: str, begin: int = 0) -> np.ndarray:
        return self._maps[part][name][begin:, 0]

    def _gather(self, item_id: Tensor, *names: str) -> list[Tensor]:
        """Rows [..., width] of the columns, changed ones in place of the first."""
        check_range(item_id, self.num_items, "item id")
        ids = item_id.cpu().numpy().reshape(-1)
        rows = [self._maps[ITEMS][name][ids] for name in names]
        if len(self._changed_id):
            place = np.searchsorted(self._changed_id, ids).clip(max=len(self._changed_id) - 1)
            hit = self._changed_id[place] == ids
            for name, found in zip(names, rows, strict=True):
                found[hit] = self._maps[CHANGED][name][self._changed_row[place[hit]]]
        return [torch.from_numpy(found).reshape(*item_id.shape, found.shape[1]) for found in rows]


def _tensor(ids: np.ndarray) -> Tensor:
    return torch.from_numpy(ids.copy())
