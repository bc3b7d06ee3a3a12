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
    from recomind.data.config import WorldLogs
    from recomind.data.dataset import SessionDataset
    from recomind.data.ids import IdMap
    from recomind.data.item_ids import among, among_rows, first_occurrence
    from recomind.data.scaling import FeatureScaling
    from recomind.data.sessions import write_sessions
    from recomind.data.sources import (
        Logs,
        LogSource,
        WindowedLogs,
        collected_logs,
        make_source,
        reads_logs,
    )
    from recomind.data.stream import SessionSource, SessionStream
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "CatalogueStore",
    "EmbeddingKind",
    "FeatureScaling",
    "IdMap",
    "LogSource",
    "Logs",
    "SessionDataset",
    "SessionSource",
    "SessionStream",
    "StoreFormat",
    "StoredCatalogue",
    "TableCatalogue",
    "WindowedLogs",
    "WorldLogs",
    "add_items",
    "among",
    "among_rows",
    "change_items",
    "collected_logs",
    "create_catalogue_store",
    "first_occurrence",
    "load_catalogue",
    "make_source",
    "materialise",
    "reads_logs",
    "storable",
    "withdraw_items",
    "write_sessions",
]
