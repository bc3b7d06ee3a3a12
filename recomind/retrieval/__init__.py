"""Two-tower retrieval and the index of the nearest items."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.retrieval.build import build_index_file
    from recomind.retrieval.catching_up import catch_up
    from recomind.retrieval.config import DistilConfig, IndexKind, LossKind, RetrievalConfig
    from recomind.retrieval.distilling import ItemValues, distil_queries, value_recall
    from recomind.retrieval.fitting import train_retrieval
    from recomind.retrieval.index import ItemIndex, build_index
    from recomind.retrieval.live import LiveIndex, create_live_index
    from recomind.retrieval.retrieval import Retrieval, load_retrieval
    from recomind.retrieval.search import SearchIndex
    from recomind.retrieval.two_tower import TwoTower
    from recomind.retrieval.update import IndexUpdate
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "DistilConfig",
    "IndexKind",
    "IndexUpdate",
    "ItemIndex",
    "ItemValues",
    "LiveIndex",
    "LossKind",
    "Retrieval",
    "RetrievalConfig",
    "SearchIndex",
    "TwoTower",
    "build_index",
    "build_index_file",
    "catch_up",
    "create_live_index",
    "distil_queries",
    "load_retrieval",
    "train_retrieval",
    "value_recall",
]
