"""A known layout of files as settings of `data=table`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from recomind.data.sources.interface import Logs
from recomind.data.sources.settings import named, typed
from recomind.data.sources.table import TableLogs
from recomind.data.sources.table.engine import Scale
from recomind.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class Preset(Scale, ABC):
    """A `LogSource` whose columns are known; subclasses say in `settings` what they are."""

    root: str = MISSING  # folder that holds the raw files
    tasks: Any = None  # 0/1 responses, in place of the layout's own
    unwanted: list[str] = field(default_factory=list)  # tasks that a release may not raise
    sessions: dict[str, Any] = field(default_factory=dict)  # as in `data=table`
    splits: dict[str, Any] = field(default_factory=dict)  # as in `data=table`
    rates: dict[str, Any] = field(default_factory=dict)  # as in `data=table`

    def __post_init__(self) -> None:
        Scale.__post_init__(self)
        if not Path(self.root).expanduser().is_dir():
            raise ConfigError("data.root is not a folder", got=repr(self.root))
        self.tasks = self.table().tasks

    @abstractmethod
    def settings(self, folder: Path) -> dict[str, Any]:
        """Settings of `data=table` for the files of `folder`."""

    def table(self) -> TableLogs:
        """The same files as settings of `data=table`."""
        settings = self.settings(Path(self.root).expanduser())
        for name in ("sessions", "splits", "rates"):
            settings[name] = {**settings.get(name, {}), **getattr(self, name)}
        settings |= self.scale() | {
            "tasks": self.tasks or settings["tasks"],
            "unwanted": self.unwanted,
        }
        if settings["rates"].get("by"):
            first = next(iter(named(settings["tasks"], "data.tasks")))
            settings["rates"].setdefault("of", [first])
        return typed(TableLogs, settings)

    @property
    def guarded(self) -> Collection[str]:
        """Tasks that a release may not raise."""
        return self.unwanted

    @property
    def support_density(self) -> float:
        """Public data sets come without propensities."""
        return 0.0

    def utility(self, reward: Mapping[str, float]) -> dict[str, float]:
        """`reward`, or the first task where it is empty."""
        return self.table().utility(reward)

    def files(self) -> list[Path]:
        """The files of all tables."""
        return self.table().files()

    def read(self) -> Logs:
        """Read the tables."""
        return self.table().read()
