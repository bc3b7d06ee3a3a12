"""`data=table`: a config that maps columns of files to events, items and users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recomind.data.sessions import SCHEMA
from recomind.data.sources.finding import find_paths
from recomind.data.sources.interface import Logs
from recomind.data.sources.settings import named
from recomind.data.sources.table.amounts import amounts_of, expanded
from recomind.data.sources.table.config import (
    RELATIVE,
    HistoryTable,
    ItemTable,
    LogTable,
    Rates,
    SessionRules,
    SplitRules,
    UserTable,
)
from recomind.data.sources.table.engine import Scale
from recomind.data.sources.table.items import categories_of
from recomind.data.sources.table.prepare import ITEM_IDS, USER_IDS, prepare
from recomind.data.sources.table.rates import Plan, plan_of
from recomind.data.times import check_zone
from recomind.errors import ConfigError, did_you_mean

__all__ = ["ITEM_IDS", "USER_IDS", "TableLogs"]


@dataclass(kw_only=True, slots=True)
class TableLogs(Scale):
    """Logs in tables, as docs/bring-your-own-logs.md describes them; a `LogSource`."""

    log: LogTable = field(default_factory=LogTable)
    tasks: Any = None  # 0/1 responses: names, or name: SQL expression
    amounts: Any = None  # name: {value, steps}; seconds or money, to be weighed in the reward
    unwanted: list[str] = field(default_factory=list)  # tasks that a release may not raise
    context: Any = None  # known when the item is chosen: names, or name: SQL expression
    items: ItemTable = field(default_factory=ItemTable)
    users: UserTable = field(default_factory=UserTable)
    sessions: SessionRules = field(default_factory=SessionRules)
    splits: SplitRules = field(default_factory=SplitRules)
    rates: Rates = field(default_factory=Rates)
    history: HistoryTable = field(default_factory=HistoryTable)
    # policy.support_density where `log.propensity` is given and the policy's own is 0; 0: none
    density: float = 0.05
    clock: bool = True  # the time of day as features
    standardise: bool = True  # user features, by the training events

    def __post_init__(self) -> None:
        Scale.__post_init__(self)
        self.tasks = {k: str(v) for k, v in named(self.tasks, "data.tasks").items()}
        for name, amount in amounts_of(self.amounts).items():
            self.tasks |= amount.tasks(name)
        _check_tasks(list(self.tasks), self.rates.of, self.unwanted)
        self._refuse_leaks()
        check_zone(self.log.time_zone, "data.log.time_zone")
        self.plan()
        if self.log.time_unit == RELATIVE and not (self.splits.column and self.sessions.column):
            raise ConfigError(
                "a relative clock has no days to split by, and no gaps that end sessions",
                got=f"data.log.time_unit={RELATIVE}",
                mend="set data.splits.column and data.sessions.column",
            )

    def _refuse_leaks(self) -> None:
        """A context that is a response would tell the ranker what it has to predict."""
        after = {text: f"data.tasks.{name}" for name, text in self.tasks.items()}
        for name, amount in amounts_of(self.amounts).items():
            after[amount.value] = f"data.amounts.{name}"
        after |= {self.log.dwell_s: "data.log.dwell_s", self.sessions.left: "data.sessions.left"}
        for name, text in self.contexts.items():
            if text in after:
                raise ConfigError(
                    f"data.context.{name} is known only after the item was shown",
                    got=f"{text!r}, which is {after[text]} too",
                    expected="what is known when the item is chosen",
                    mend="leave it out of data.context",
                )

    @property
    def contexts(self) -> dict[str, str]:
        """Name -> column or SQL expression of what is known when the item is chosen."""
        return {k: str(v) for k, v in named(self.context, "data.context").items()}

    def plan(self) -> Plan:
        """What `rates.by` asks for."""
        return plan_of(self.rates, list(self.contexts), list(categories_of(self.items)))

    @property
    def guarded(self) -> Sequence[str]:
        """Tasks that a release may not raise."""
        return self.unwanted

    @property
    def support_density(self) -> float:
        """`density`, where the log has propensities."""
        return self.density if self.log.propensity else 0.0

    def utility(self, reward: Mapping[str, float]) -> dict[str, float]:
        """`reward`, or the first task where it is empty; amounts are sums of their steps' tasks."""
        return expanded(reward or {next(iter(self.tasks)): 1.0}, amounts_of(self.amounts))

    def files(self) -> list[Path]:
        """The files of all tables, those on this machine."""
        tables = {"log": self.log, "items": self.items, "users": self.users}
        paths = [
            path
            for name, files in tables.items()
            if files.path or name == "log"
            for path in find_paths(files.path, f"data.{name}.path")
        ]
        return [Path(path) for path in paths if "://" not in path]

    def read(self) -> Logs:
        """Read the tables and make events, catalogue, maps of ids and scalings of them."""
        return prepare(self)


def _check_tasks(tasks: Sequence[str], rated: Sequence[str], unwanted: Sequence[str]) -> None:
    if not tasks:
        raise ConfigError(
            "data.tasks names no response",
            mend="name 0/1 columns, or expressions such as read_10s: 'read_seconds > 10'",
        )
    for name in tasks:
        if not name.isidentifier() or name in SCHEMA or name.startswith("u_"):
            raise ConfigError(
                "a task has a name that it may not have",
                got=repr(name),
                expected=f"letters, digits and _, and none of {', '.join(SCHEMA)}",
            )
    for setting, names in {"rates.of": rated, "unwanted": unwanted}.items():
        for name in names:
            if name not in tasks:
                hint = did_you_mean(name, tasks)
                raise ConfigError(f"data.{setting} names no task: {name!r}: {hint}")
