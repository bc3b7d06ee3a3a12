"""The log as events: one type a column, every value checked where its file and row are known.

Columns made of the user's: `user` and `item` (ids as text), `time_ms`, one 0/1 column a task,
`label.<name>` for further labels, `context.<name>`, `dwell_s`, `propensity`, and those of
`_OPTIONAL` that the config names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from recomind.data.ids import as_ids
from recomind.data.sources.scanning import Table
from recomind.data.sources.table.config import RELATIVE, EventSettings
from recomind.data.times import outlier, to_milliseconds
from recomind.errors import ConfigError, SchemaError

_YES, _NO = ("1", "true", "t", "yes", "y", "1.0"), ("0", "false", "f", "no", "n", "0.0")
_SETTING_OF = {
    "dwell_s": "log.dwell_s",
    "propensity": "log.propensity",
    "session": "sessions.column",
    "left": "sessions.left",
    "left_known": "sessions.left_known",
    "position": "sessions.position",
    "timeline": "sessions.timeline",
    "split": "splits.column",
    "holdout": "splits.holdout",
}
_FLAGS = ("left", "left_known", "holdout")


@dataclass(kw_only=True, slots=True)
class RawLog:
    """Checked events, in the order of the files."""

    table: Table
    events: pl.DataFrame
    facts: dict[str, Any]


def read_log(source: EventSettings, num_items: int) -> RawLog:
    """Read and check the log.

    Args:
        source: the settings.
        num_items: rows of the item table; SQL expressions may use it, as `num_items`.
    """
    plain = (source.log.user, source.log.item, source.sessions.column, source.sessions.timeline)
    table = Table(source.log, "data.log", ids=plain)
    if "num_items" not in table.columns:
        table.lazy = table.lazy.with_columns(num_items=pl.lit(float(num_items)))
        table.columns.append("num_items")
    events = table.collect(_columns(source, table))
    events = _with_ids(table, events)
    num_rows = events.height
    events, unit = _with_times(table, events, source)
    for name in [n for n in events.columns if n in source.tasks or n.startswith("label.")]:
        events = _binary(table, events, name)
    for name in [n for n in _FLAGS if n in events.columns]:
        events = _binary(table, events, name).with_columns(pl.col(name).cast(pl.Boolean))
    events = _with_dwell(table, events)
    events = _with_propensity(table, events)
    unique = _without_repeats(events, source)
    facts = {
        "num_log_rows": num_rows,
        "num_repeats_dropped": num_rows - unique.height,
        "time_unit": unit,
    }
    return RawLog(table=table, events=unique, facts=facts)


def _columns(source: EventSettings, table: Table) -> dict[str, pl.Expr]:
    log, sessions, splits = source.log, source.sessions, source.splits
    wanted = {name: table.expression(getattr(log, name), name) for name in ("user", "item", "time")}
    optional = {
        "dwell_s": log.dwell_s,
        "propensity": log.propensity,
        "session": sessions.column,
        "left": sessions.left,
        "left_known": sessions.left_known,
        "position": sessions.position,
        "timeline": sessions.timeline,
        "split": splits.column,
        "holdout": splits.holdout,
    }
    named = {name: (text, f"data.{_SETTING_OF[name]}") for name, text in optional.items()}
    named |= {name: (text, f"data.tasks.{name}") for name, text in source.tasks.items()}
    for name, text in source.rates.of_items.items():
        named[f"label.{name}"] = (text, f"data.rates.of_items.{name}")
    for name, text in source.contexts.items():
        named[f"context.{name}"] = (text, f"data.context.{name}")
    for name, (text, setting) in named.items():
        if text:
            wanted[name] = table.expression(text, name, setting)
    return wanted


def _with_ids(table: Table, events: pl.DataFrame) -> pl.DataFrame:
    for name in ("user", "item", "session", "timeline"):
        if name in events.columns:
            ids = as_ids(events[name], "data.log").alias(name)
            events = events.with_columns(ids)
            table.require(events, name, pl.col(name).is_not_null(), "an id in every row")
    return events


def _with_times(
    table: Table, events: pl.DataFrame, source: EventSettings
) -> tuple[pl.DataFrame, str]:
    log = source.log
    table.require(events, "time", pl.col("time").is_not_null(), "a time in every row")
    if log.time_unit == RELATIVE:
        return events.with_columns(time_ms=pl.col("time").cast(pl.Int64)), RELATIVE
    try:
        times, said = to_milliseconds(events["time"], log.time_unit, log.time_zone)
    except SchemaError as error:
        raise SchemaError(
            f"data.log.time: {error.what}",
            got=error.got,
            expected=error.expected,
            mend=error.mend,
        ) from error
    unread = events.filter(times.is_null())
    if unread.height:
        raise table.refused(
            unread,
            "time",
            f"a time as most others are: {said}",
            mend="such as 2024-01-31T18:30:00+02:00, or leave the row out by data.log.where",
        )
    found = outlier(times, log.max_days)
    if found is not None:
        row, why = found
        raise table.refused(
            events[row],
            "time",
            f"1990 to 2100, within data.log.max_days={log.max_days} of the median",
            why=f", which as {said} is {why},",
            mend="set data.log.time_unit to s, ms, us or ns, or leave the row out by "
            "data.log.where",
        )
    events = events.with_columns(time_ms=times.round().cast(pl.Int64))
    if events["time_ms"].n_unique() == 1 and events.height > 1:
        raise SchemaError(
            "data.log.time holds one value only, so events have no order",
            got=f"{events['time'][0]} in all {events.height} rows",
        )
    return events, said


def _binary(table: Table, events: pl.DataFrame, name: str) -> pl.DataFrame:
    """`name` as UInt8 0/1; text such as "true" counts."""
    column, dtype = pl.col(name), events.schema[name]
    if dtype == pl.String:
        text = column.str.strip_chars().str.to_lowercase()
        value = pl.when(text.is_in(_YES)).then(1).when(text.is_in(_NO)).then(0)
    elif dtype == pl.Boolean or dtype.is_numeric():
        value = pl.when(column == 1).then(1).when(column == 0).then(0)
    else:
        raise SchemaError(f"data.tasks.{name} is no 0/1", got=dtype, expected="numbers or text")
    cast = events.with_columns(value.cast(pl.UInt8).alias("_cast"))
    if cast["_cast"].null_count():
        raise table.refused(
            cast.filter(pl.col("_cast").is_null()),
            name,
            "0 or 1 in every row",
            mend="compare it, as in 'shares > 0', or fill gaps, as in 'coalesce(clicked, 0)'",
        )
    return cast.with_columns(pl.col("_cast").alias(name)).drop("_cast")


def _with_dwell(table: Table, events: pl.DataFrame) -> pl.DataFrame:
    if "dwell_s" not in events.columns:
        return events.with_columns(dwell_s=pl.lit(1.0))
    events = _numbers(table, events, "dwell_s")
    value = pl.col("dwell_s")
    table.require(events, "dwell_s", value.is_finite() & (value >= 0), "finite seconds >= 0")
    return events


def _with_propensity(table: Table, events: pl.DataFrame) -> pl.DataFrame:
    if "propensity" not in events.columns:
        return events.with_columns(propensity=pl.lit(None, pl.Float64))
    events = _numbers(table, events, "propensity")
    value = pl.col("propensity")
    within = value.is_null() | ((value > 0) & (value <= 1))
    table.require(events, "propensity", within, "in (0, 1], or nothing where it is unknown")
    return events


def _numbers(table: Table, events: pl.DataFrame, name: str) -> pl.DataFrame:
    before = events[name]
    cast = events.with_columns(pl.col(name).cast(pl.Float64, strict=False).alias("_cast"))
    lost = cast.filter(pl.col("_cast").is_null() & before.is_not_null())
    if lost.height:
        raise table.refused(lost, name, "numbers")
    return cast.with_columns(pl.col("_cast").alias(name)).drop("_cast")


def _without_repeats(events: pl.DataFrame, source: EventSettings) -> pl.DataFrame:
    if source.log.duplicates not in ("drop", "keep"):
        raise ConfigError(
            "data.log.duplicates", got=repr(source.log.duplicates), expected="drop or keep"
        )
    if source.log.duplicates == "keep":
        return events
    key = ["user", "item", "time_ms", *({"session", "position"} & set(events.columns))]
    return events.unique(key, keep="first", maintain_order=True)
