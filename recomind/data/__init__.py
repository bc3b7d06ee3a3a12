"""Logs to sessions: schema, validation, sessionisation, time splits, batches."""

from recomind.data.catalogue import TableCatalogue, materialise
from recomind.data.catalogue_format import EmbeddingKind, StoreFormat
from recomind.data.catalogue_store import CatalogueStore
from recomind.data.catalogue_writer import (
    add_items,
    change_items,
    create_catalogue_store,
    withdraw_items,
)
from recomind.data.config import DataConfig, DataSource
from recomind.data.dataset import SessionDataset
from recomind.data.kuairand import read_kuairand
from recomind.data.sessions import write_sessions
from recomind.data.stream import SessionSource, SessionStream

__all__ = [
    "CatalogueStore",
    "DataConfig",
    "DataSource",
    "EmbeddingKind",
    "SessionDataset",
    "SessionSource",
    "SessionStream",
    "StoreFormat",
    "TableCatalogue",
    "add_items",
    "change_items",
    "create_catalogue_store",
    "materialise",
    "read_kuairand",
    "withdraw_items",
    "write_sessions",
]
