"""An index in shards, each held by a Ray actor; needs Ray."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.serving.shards.build import build_shards
    from recomind.serving.shards.config import ShardsConfig
    from recomind.serving.shards.index import SearchCounts, ShardedAnswer, ShardedIndex, ShardStatus
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "SearchCounts",
    "ShardStatus",
    "ShardedAnswer",
    "ShardedIndex",
    "ShardsConfig",
    "build_shards",
]
