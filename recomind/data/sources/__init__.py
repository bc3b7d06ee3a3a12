"""Sources of logs: raw files to events, a catalogue and tasks."""

from recomind.data.sources.factory import collected_logs, make_source, reads_logs
from recomind.data.sources.interface import Logs, LogSource

__all__ = ["LogSource", "Logs", "collected_logs", "make_source", "reads_logs"]
