"""The Ray Serve application; `recomind.serving.app` and `.shards` need Ray, the rest does not."""

from recomind.serving.config import ServingConfig
from recomind.serving.engine import RankingEngine, load_engine

__all__ = ["RankingEngine", "ServingConfig", "load_engine"]
