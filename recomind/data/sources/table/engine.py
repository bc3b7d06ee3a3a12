"""Who works on partitions: this process, or Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from recomind.data.config import require_setting
from recomind.errors import ConfigError, did_you_mean

GRAIN = 65_536  # events whose features are summed at once: partitions are whole grains
ENGINES = ("local", "ray")


@dataclass(kw_only=True, slots=True)
class Scale:
    """Settings of a log that may be larger than memory or than a machine."""

    engine: str = "local"  # who works on the partitions: local, or ray
    partition_events: int = 1_000_000  # events in memory at once; a log of more goes through files
    spill: str = ""  # folder for those files; empty: in the run, or where temporary files go

    def __post_init__(self) -> None:
        enough = self.partition_events >= GRAIN
        require_setting(enough, "partition_events", self.partition_events, f">= {GRAIN}")
        if self.engine not in ENGINES:
            hint = did_you_mean(self.engine, ENGINES)
            raise ConfigError(f"unknown data.engine {self.engine!r}: {hint}")

    def scale(self) -> dict[str, Any]:
        """These settings by name."""
        return {name: getattr(self, name) for name in ("engine", "partition_events", "spill")}


class Engine(Protocol):
    """Calls a function for each partition."""

    at_once: bool  # whether several calls run at a time

    def map(
        self, function: Callable[..., Any], shared: Any, calls: Iterable[tuple[Any, ...]]
    ) -> Iterator[Any]:
        """What `function(shared, *call)` gives for each call, in their order."""
        ...


class Local:
    """One partition after another, in this process."""

    at_once = False

    def map(
        self, function: Callable[..., Any], shared: Any, calls: Iterable[tuple[Any, ...]]
    ) -> Iterator[Any]:
        """What `function(shared, *call)` gives for each call, in their order."""
        for call in calls:
            yield function(shared, *call)


def make_engine(name: str) -> Engine:
    """The engine that `data.engine` names."""
    if name == "ray":
        from recomind.local_ray import RayTasks

        return RayTasks()
    return Local()
