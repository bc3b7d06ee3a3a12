"""What a source of logs is, and what it makes of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import polars as pl

    from recomind.data.catalogue import StoredCatalogue


@dataclass(kw_only=True, slots=True)
class Logs:
    """Raw logs, read and checked: what the sessions artifact is written from."""

    # events, as `recomind.data.write_sessions` wants them; lazy ones are sorted already
    frame: pl.DataFrame | pl.LazyFrame
    catalogue: StoredCatalogue
    tasks: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)  # counts, scalings: into the manifest
    notes: list[str] = field(default_factory=list)  # what a user should read, one line each
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)  # Parquet files kept beside
    files: object = None  # holds files that a lazy frame reads: they may go when this does

    @property
    def events(self) -> pl.DataFrame:
        """The frame in memory."""
        return self.frame.lazy().collect()


@runtime_checkable
class LogSource(Protocol):
    """Raw logs to sessions; `data.source` names the class, its settings are the arguments.

    A dataclass is the shortest way to write one: see docs/bring-your-own-logs.md.
    """

    @property
    def tasks(self) -> Collection[str]:
        """Names of the 0/1 responses in the log, known before it is read."""
        ...

    @property
    def guarded(self) -> Collection[str]:
        """Tasks that a release may not raise, such as hides and complaints."""
        ...

    @property
    def support_density(self) -> float:
        """`policy.support_density` where it is left at 0; above 0 propensities must be known."""
        ...

    def utility(self, reward: Mapping[str, float]) -> dict[str, float]:
        """Weight of each task, from weights of tasks and amounts; {} asks for the default."""
        ...

    def files(self) -> list[Path]:
        """The raw files on this machine; a change in them makes the sessions out of date."""
        ...

    def read(self) -> Logs:
        """Read and check everything.

        Raises:
            ConfigError: a setting that does not fit the logs.
            SchemaError: a file, column or value is missing or wrong.
        """
        ...


@runtime_checkable
class WindowedLogs(LogSource, Protocol):
    """Logs that go on: each round of a run takes the next window of them."""

    def at_window(self, index: int) -> LogSource:
        """The source of the window `index`, from 0."""
        ...

    def identity(self) -> dict[str, str]:
        """What a window holds, to stand among the inputs of its sessions in place of `files`."""
        ...
