"""Clustered unit vectors of any number of items, each a function of its id.

Symbols: `n` items, `D` length of a vector.

An item belongs to one of 16,384 clusters, a cluster to one of 256 topics: topic, cluster and item
each add a normal vector of its own, a hash of its number, and the sum is brought to unit length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from recomind.streams import hash_int64, hash_normal, hash_uniform
from recomind.types import SessionState

DIM = 64
NUM_TOPICS, NUM_CLUSTERS = 256, 16_384
OF_CLUSTER, OF_ITEM = 0.5, 0.3  # length of what they add, where a topic's vector has length 1
_SALT_TOPIC, _SALT_CLUSTER, _SALT_ITEM, _SALT_QUERY = 501, 502, 503, 504


class ItemSpace:
    """Vectors of items, and of what users look for."""

    def __init__(self) -> None:
        clusters = torch.arange(NUM_CLUSTERS)
        topics = _normal(clusters % NUM_TOPICS, _SALT_TOPIC)
        self._centre_CD = topics + OF_CLUSTER * _normal(clusters, _SALT_CLUSTER)

    def vectors(self, item_id: Tensor) -> Tensor:
        """Unit vectors [n, D] of `item_id` [n]."""
        cluster = (hash_uniform(item_id, _SALT_CLUSTER) * NUM_CLUSTERS).long()
        own = OF_ITEM * _normal(item_id, _SALT_ITEM)
        return functional.normalize(self._centre_CD[cluster] + own, dim=1)

    def queries(self, state: SessionState) -> Tensor:
        """Unit vectors [B, D]: near the latest item of each history, and not at an item."""
        latest = state.history_item_id[:, -1]
        own = OF_ITEM * _normal(hash_int64(latest, 3) ^ state.user_id, _SALT_QUERY)
        return functional.normalize(self.vectors(latest) + own, dim=1)


def _normal(number: Tensor, salt: int) -> Tensor:
    """[n, D] float32 of expected squared length 1."""
    keys = hash_int64(number, salt)[:, None] + torch.arange(DIM) * 0x5851F42D
    return hash_normal(keys, salt) / DIM**0.5
