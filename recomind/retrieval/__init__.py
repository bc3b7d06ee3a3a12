"""Two-tower retrieval and the index of the nearest items."""

from recomind.retrieval.config import IndexKind, RetrievalConfig
from recomind.retrieval.index import ItemIndex, build_index
from recomind.retrieval.retrieval import Retrieval, load_retrieval, train_retrieval
from recomind.retrieval.two_tower import TwoTower

__all__ = [
    "IndexKind",
    "ItemIndex",
    "Retrieval",
    "RetrievalConfig",
    "TwoTower",
    "build_index",
    "load_retrieval",
    "train_retrieval",
]
