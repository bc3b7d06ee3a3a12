"""A live index follows its catalogue."""

from __future__ import annotations

import torch

from recomind.data import CatalogueStore
from recomind.retrieval.index import CHUNK_ITEMS, ItemVectors
from recomind.retrieval.live import LiveIndex
from recomind.retrieval.update import IndexUpdate


def catch_up(index: LiveIndex, store: CatalogueStore, vectors_of: ItemVectors) -> bool:
    """Bring `index` to the version of `store`, and say whether it was behind.

    Args:
        index: at the version of the store or an earlier one.
        store: the catalogue.
        vectors_of: item ids [n] -> vectors [n, D], at the version of the store.

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
