"""Logs in tables of any layout, read by configuration."""

from recomind.data.sources.table.source import TableLogs

__all__ = ["TableLogs"]
