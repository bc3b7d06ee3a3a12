"""The HTTP service; only `recomind.serving.shards` needs Ray."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.serving.config import ServingConfig
    from recomind.serving.engine import RankingEngine
    from recomind.serving.loading import load_engine
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["RankingEngine", "ServingConfig", "load_engine"]
