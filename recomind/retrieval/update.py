"""A change of a catalogue, applied to a generation of a live index.

Symbols: `n` new or changed items, `w` withdrawn ones, `D` length of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from recomind.errors import ArtifactError, SchemaError
from recomind.retrieval.generation import Generation
from recomind.retrieval.index import check_vectors


@dataclass(kw_only=True)
class IndexUpdate:
    """The changes of a catalogue since the index's version."""

    version: int  # version of the catalogue after the change
    num_items: int  # N of the catalogue, after the change
    item_id: Tensor  # [n] int64, items that are new or whose content is; no id twice
    vectors: Tensor  # [n, D] float32, theirs
    withdrawn: Tensor  # [w] int64, items that must no longer be found


def updated(old: Generation, change: IndexUpdate) -> Generation:
    """The generation after `old`, with `change` applied."""
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
        raise SchemaError(
            "there must be one vector for each item",
            got=f"{len(ids)} ids",
            expected=len(change.vectors),
        )
    _refuse(_repeated(ids), "repeated item ids")
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
