"""What has changed in a catalogue, put into a live index.

Symbols: `n` items that are new or changed, `w` withdrawn ones, `D` length of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from recomind.data import CatalogueStore
from recomind.errors import ArtifactError, SchemaError
from recomind.retrieval.generation import Generation
from recomind.retrieval.index import CHUNK_ITEMS, ItemVectors, check_vectors

if TYPE_CHECKING:
    from recomind.retrieval.live import LiveIndex


@dataclass(kw_only=True)
class IndexUpdate:
    """What has changed in a catalogue since the index's version."""

    version: int  # of the catalogue, after the change
    num_items: int  # N of the catalogue, after the change
    item_id: Tensor  # [n] int64, items that are new or whose content is; no id twice
    vectors: Tensor  # [n, D] float32, theirs
    withdrawn: Tensor  # [w] int64, items that may not be found any more


def catch_up(index: LiveIndex, store: CatalogueStore, vectors_of: ItemVectors) -> bool:
    """Bring `index` to the version of `store`, and say whether it was behind.

    Args:
        index: of an earlier version of the store, or of this one.
        store: the catalogue.
        vectors_of: item ids [n] -> vectors [n, D], of the store's version.

    Raises:
        SchemaError: vectors of another length, or NaN, infinite or zero ones.
    """
    index.refresh()
    if index.version >= store.version:
        return False
    changes = store.changes_since(index.version)
    item_id = torch.cat([changes.added, changes.changed])
    vectors = [vectors_of(ids) for ids in item_id.split(CHUNK_ITEMS) if len(ids)]
    index.update(
        IndexUpdate(
            version=store.version,
            num_items=store.num_items,
            item_id=item_id,
            vectors=torch.cat(vectors) if vectors else torch.zeros(0, index.dim),
            withdrawn=changes.withdrawn,
        )
    )
    return True


def updated(old: Generation, change: IndexUpdate) -> Generation:
    """The generation after `old`."""
    ids, gone = change.item_id.numpy(), np.unique(change.withdrawn.numpy())
    _check_change(old, change, ids, gone)
    vectors = check_vectors(change.vectors, old.side_vector.shape[1], "item vector")
    withdrawn = np.union1d(old.withdrawn, gone)
    stays = ~np.isin(old.side_id, np.concatenate([ids, gone]))
    comes = ~np.isin(ids, gone)
    return old.next(
        version=change.version,
        num_items=change.num_items,
        side_id=np.concatenate([old.side_id[stays], ids[comes]]),
        side_vector=np.concatenate([old.side_vector[stays], vectors[comes]]),
        hidden=np.union1d(old.hidden, np.concatenate([ids, gone])),
        withdrawn=withdrawn,
    )


def _check_change(old: Generation, change: IndexUpdate, ids: np.ndarray, gone: np.ndarray) -> None:
    if change.version <= old.version or change.num_items < old.num_items:
        raise ArtifactError(
            "the index is at this version or a later one",
            got=f"version {change.version} of {change.num_items} items",
            expected=f"newer than version {old.version} of {old.num_items} items",
        )
    if len(ids) != len(change.vectors):
        raise SchemaError("one vector an item", got=f"{len(ids)} ids", expected=len(change.vectors))
    _refuse(_repeated(ids), "item ids that come twice")
    both = np.concatenate([ids, gone])
    _refuse(
        both[(both < 0) | (both >= change.num_items)],
        f"item ids that are not in the catalogue of {change.num_items}",
    )
    _refuse(ids[np.isin(ids, old.withdrawn)], "items that were withdrawn and cannot come back")


def _repeated(ids: np.ndarray) -> np.ndarray:
    values, count = np.unique(ids, return_counts=True)
    return values[count > 1]


def _refuse(ids: np.ndarray, what: str) -> None:
    if len(ids):
        raise SchemaError(what, got=f"{len(ids)}, the first is {ids[0]}")
