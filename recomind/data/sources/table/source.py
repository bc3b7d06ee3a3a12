"""`data=table`: a config that maps columns of files to events, items and users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recomind.data.ids import IdMap, in_natural_order
from recomind.data.scaling import standardised
from recomind.data.sessions import SCHEMA
from recomind.data.sources.interface import Logs
from recomind.data.sources.scanning import find_paths
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
from recomind.data.sources.table.history import read_prior
from recomind.data.sources.table.items import (
    ItemContent,
    catalogue_of,
    categories_of,
    dated,
    item_content,
    read_items,
)
from recomind.data.sources.table.log import read_log
from recomind.data.sources.table.profiles import read_users, with_profiles
from recomind.data.sources.table.propensities import note_on_propensities
from recomind.data.sources.table.rates import (
    item_statistics,
    plan_of,
    with_surprise,
    with_user_rates,
)
from recomind.data.sources.table.sessions import in_sessions
from recomind.data.sources.table.splits import with_splits
from recomind.data.sources.table.unknown import check_unknown
from recomind.data.sources.table.users import Looks, user_features
from recomind.data.times import check_zone, local_days
from recomind.errors import ConfigError, did_you_mean

ITEM_IDS, USER_IDS = "item_ids.parquet", "user_ids.parquet"


@dataclass(kw_only=True, slots=True)
class TableLogs:
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
        self.tasks = {k: str(v) for k, v in named(self.tasks, "data.tasks").items()}
        for name, amount in amounts_of(self.amounts).items():
            self.tasks |= amount.tasks(name)
        _check_tasks(list(self.tasks), self.rates.of, self.unwanted)
        check_zone(self.log.time_zone, "data.log.time_zone")
        plan_of(self.rates, list(self.contexts), list(categories_of(self.items)))
        if self.log.time_unit == RELATIVE and not (self.splits.column and self.sessions.column):
            raise ConfigError(
                "a relative clock has no days to split by, and no gaps that end sessions",
                got=f"data.log.time_unit={RELATIVE}",
                mend="set data.splits.column and data.sessions.column",
            )

    @property
    def contexts(self) -> dict[str, str]:
        """Name -> column or SQL expression of what is known when the item is chosen."""
        return {k: str(v) for k, v in named(self.context, "data.context").items()}

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
        zone = self.log.time_zone
        listed, users = read_items(self.items, zone), read_users(self.users)
        raw = read_log(self, listed[0].height if listed else 0)
        item_ids = IdMap.of(_all_ids(listed[0] if listed else None, raw.events["item"]))
        user_ids = IdMap.of(_all_ids(users, raw.events["user"]), keep_integers=True)
        facts = raw.facts | check_unknown(
            raw, (listed[0] if listed else None, self.items), (users, self.users)
        )
        events = raw.events.with_columns(
            pl.Series("item_id", item_ids.rows(raw.events["item"])),
            pl.Series("user_id", user_ids.rows(raw.events["user"])),
        )
        events = with_splits(self._dated(in_sessions(events, self.sessions)), self.splits)
        content = item_content(listed[0] if listed else None, item_ids, self.items)
        features, dense, more = self._features(events, content, users, user_ids)
        shown = events.filter(events["split"] == "train")
        catalogue, of_items = catalogue_of(dense, content, shown, self.items.standardise)
        frame = events.select(pl.col(n).cast(t) for n, t in SCHEMA.items()).hstack(
            events.select(pl.col(task).cast(pl.UInt8) for task in self.tasks)
        )
        return Logs(
            frame=frame.hstack(features.select(pl.all().name.prefix("u_"))),
            catalogue=catalogue,
            tasks=tuple(self.tasks),
            facts=facts | _facts(events) | of_items | more,
            notes=[
                f"times: {facts['time_unit']}",
                note_on_propensities(events, self.support_density),
            ],
            tables={ITEM_IDS: item_ids.table, USER_IDS: user_ids.table},
        )

    def _dated(self, events: pl.DataFrame) -> pl.DataFrame:
        """Events with `local_day` since 1970, `day` from 0, `ms_of_day` and `snapshot`."""
        if self.log.time_unit == RELATIVE:
            return events.with_columns(snapshot=pl.lit(0, pl.Int32), day=pl.lit(0))
        local_day, ms_of_day = local_days(pl.col("time_ms"), self.log.time_zone)
        events = events.with_columns(local_day=local_day, ms_of_day=ms_of_day)
        day = pl.col("local_day") - pl.col("local_day").min()
        is_dated = bool(self.rates.of or self.items.published or not self.items.path)
        snapshot = day.cast(pl.Int32) if is_dated else pl.lit(0, pl.Int32)
        return events.with_columns(day=day, snapshot=snapshot)

    def _features(
        self,
        events: pl.DataFrame,
        content: ItemContent,
        users: pl.DataFrame | None,
        user_ids: IdMap,
    ) -> tuple[pl.DataFrame, dict[str, np.ndarray], dict[str, Any]]:
        """Features of users [E, U], of items name -> [D, N], and scalings for the manifest."""
        plan = plan_of(self.rates, list(self.contexts), list(content.groups))
        prior = read_prior(self.history, self.rates, content.ids, user_ids)
        codes = {n: _codes(events[f"context.{n}"]) for n in {*plan.contexts, *plan.user_contexts}}
        events = with_surprise(events, self.rates, plan, codes)
        events = with_user_rates(events, self.rates, plan, prior)
        num_days = int(events["snapshot"].max()) + 1  # pyright: ignore[reportArgumentType]
        first_day = int(events["local_day"].min()) if "local_day" in events.columns else 0  # pyright: ignore
        dense = dated(content, first_day, num_days)
        if self.log.time_unit != RELATIVE and (self.rates.of or not dense):
            dense |= item_statistics(events, self.rates, plan, prior, content.groups, num_days)
        events = _beyond_items(events, dense, self.rates.of)
        events = with_profiles(events, users, user_ids)
        train = events["split"] == "train"
        item = events["item_id"].to_numpy()
        looks = Looks(
            rates=self.rates,
            plan=plan,
            contexts=codes,
            groups={n: content.codes[n][item] for n in plan.user_groups},
            group_words=content.words,
            train=train,
            has_history=prior.configured,
            has_dwell=bool(self.log.dwell_s),
            clock=self.clock and self.log.time_unit != RELATIVE,
        )
        features, facts = self._scaled(user_features(events, looks), train)
        return features, dense, facts | {"history_file_used": prior.found}

    def _scaled(
        self, features: pl.DataFrame, train: pl.Series
    ) -> tuple[pl.DataFrame, dict[str, Any]]:
        if self.standardise:
            features, scaling = standardised(features, train)
            return features, {"user_scaling": scaling}
        scaling = {name: {"mean": 0.0, "std": 1.0} for name in features.columns}
        return features.cast(pl.Float32), {"user_scaling": scaling}


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


def _all_ids(table: pl.DataFrame | None, seen: pl.Series) -> pl.Series:
    return seen if table is None else pl.concat([table["id"], seen.alias("id")])


def _codes(values: pl.Series) -> np.ndarray:
    """[E] int64: the place of each value among all of them, in their natural order."""
    if values.dtype.is_integer():
        return values.fill_null(-1).cast(pl.Int64).to_numpy()
    text = values.cast(pl.String)
    return IdMap(in_natural_order(text.drop_nulls())).rows(text)


def _beyond_items(
    events: pl.DataFrame, dense: Mapping[str, np.ndarray], rated: Sequence[str]
) -> pl.DataFrame:
    """Events with `beyond_item.<task>`: surprise minus the item's rate on earlier days."""
    day, item = events["day"].to_numpy(), events["item_id"].to_numpy()
    columns = {}
    for task in rated:
        known = dense.get(f"rate_{task}")
        own = 0.0 if known is None else pl.Series(known[day, item])
        columns[f"beyond_item.{task}"] = pl.col(f"surprise.{task}") - own
    return events.with_columns(**columns)


def _facts(events: pl.DataFrame) -> dict[str, Any]:
    shown = events.filter(pl.col("position") >= 0)
    sessions = shown["session_id"].n_unique()
    known = shown["propensity"].count() / max(shown.height, 1)
    return {
        "num_censored_sessions": sessions - shown.filter(pl.col("left")).height,
        "share_of_known_propensities": known,
    }
