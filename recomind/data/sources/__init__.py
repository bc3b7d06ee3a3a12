"""Sources of logs: raw files to events, a catalogue and tasks."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.data.sources.factory import collected_logs, make_source, reads_logs
    from recomind.data.sources.interface import Logs, LogSource, WindowedLogs
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["LogSource", "Logs", "WindowedLogs", "collected_logs", "make_source", "reads_logs"]
