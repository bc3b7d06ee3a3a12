"""Logs to sessions: schema, validation, sessionisation, time splits, batches."""

from recomind.data.catalogue import TableCatalogue, materialise
from recomind.data.config import DataConfig, DataSource
from recomind.data.dataset import SessionDataset
from recomind.data.kuairand import read_kuairand
from recomind.data.sessions import write_sessions
from recomind.data.stream import SessionSource, SessionStream

__all__ = [
    "DataConfig",
    "DataSource",
    "SessionDataset",
    "SessionSource",
    "SessionStream",
    "TableCatalogue",
    "materialise",
    "read_kuairand",
    "write_sessions",
]
