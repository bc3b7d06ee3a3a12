"""Logs to sessions: schema, validation, sessionisation, time splits, batches."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.data.catalogue import StoredCatalogue, TableCatalogue, materialise
    from recomind.data.catalogue_format import EmbeddingKind, StoreFormat
    from recomind.data.catalogue_kinds import load_catalogue, storable
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
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "CatalogueStore",
    "DataConfig",
    "DataSource",
    "EmbeddingKind",
    "SessionDataset",
    "SessionSource",
    "SessionStream",
    "StoreFormat",
    "StoredCatalogue",
    "TableCatalogue",
    "add_items",
    "change_items",
    "create_catalogue_store",
    "load_catalogue",
    "materialise",
    "read_kuairand",
    "storable",
    "withdraw_items",
    "write_sessions",
]
