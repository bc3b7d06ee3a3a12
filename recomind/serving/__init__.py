"""The Ray Serve application; `recomind.serving.app` and `.shards` need Ray, the rest does not."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.serving.config import ServingConfig
    from recomind.serving.engine import RankingEngine, load_engine
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["RankingEngine", "ServingConfig", "load_engine"]
