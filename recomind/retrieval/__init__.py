"""Two-tower retrieval and the index of the nearest items."""

from recomind.retrieval.build import build_index_file
from recomind.retrieval.config import IndexKind, RetrievalConfig
from recomind.retrieval.fitting import train_retrieval
from recomind.retrieval.index import ItemIndex, build_index
from recomind.retrieval.live import LiveIndex, create_live_index
from recomind.retrieval.retrieval import Retrieval, load_retrieval
from recomind.retrieval.two_tower import TwoTower
from recomind.retrieval.update import IndexUpdate, catch_up

__all__ = [
    "IndexKind",
    "IndexUpdate",
    "ItemIndex",
    "LiveIndex",
    "Retrieval",
    "RetrievalConfig",
    "TwoTower",
    "build_index",
    "build_index_file",
    "catch_up",
    "create_live_index",
    "load_retrieval",
    "train_retrieval",
]
