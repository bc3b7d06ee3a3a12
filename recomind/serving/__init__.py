"""The HTTP service; only `recomind.serving.shards` needs Ray."""

from recomind.serving.config import ServingConfig
from recomind.serving.engine import RankingEngine, load_engine

__all__ = ["RankingEngine", "ServingConfig", "load_engine"]
