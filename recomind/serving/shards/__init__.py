"""An index in shards, each held by a Ray actor; needs Ray."""

from recomind.serving.shards.build import build_shards
from recomind.serving.shards.config import ShardsConfig
from recomind.serving.shards.index import SearchCounts, ShardedAnswer, ShardedIndex, ShardStatus

__all__ = [
    "SearchCounts",
    "ShardStatus",
    "ShardedAnswer",
    "ShardedIndex",
    "ShardsConfig",
    "build_shards",
]
