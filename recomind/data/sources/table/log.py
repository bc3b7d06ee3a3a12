"""The log as events: one type a column, every value checked where its file and row are known.

Columns made of the user's: `user` and `item` (ids as text), `time_ms`, one 0/1 column a task,
`label.<name>` for further labels, `context.<name>`, `dwell_s`, `propensity`, and those of
`_OPTIONAL` that the config names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from recomind.data.ids import as_ids
from recomind.data.sources.scanning import Table
from recomind.data.sources.table.census import HOUR_MS, Census
from recomind.data.sources.table.config import RELATIVE, EventSettings, LogTable
from recomind.data.sources.table.contexts import checked_context, means_of_first_rows
from recomind.data.sources.table.spill import Part, Spill
from recomind.data.times import (
    DAY_MS,
    EARLIEST_MS,
    LATEST_MS,
    TimeForm,
    date_said,
    local_days,
    outlier,
    time_form,
)
from recomind.errors import SchemaError

YES, NO = ("1", "true", "t", "yes", "y", "1.0"), ("0", "false", "f", "no", "n", "0.0")
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
_NO_ID = (
    "leave such rows out by data.log.where, or name them by something else, as in "
    "{0}: \"coalesce(nullif(trim({0}), ''), session)\""
)
_FLAGS = ("left", "left_known", "holdout")
_SAMPLE = 100_000  # rows that the form of the times is told from


@dataclass(kw_only=True, slots=True)
class RawLog:
    """Checked events."""

    table: Table
    spill: Spill
    parts: list[Part]  # batches in the order of the files, each sorted by `time_ms`
    census: Census
    said: str  # what times were taken for
    fills: dict[str, float]  # context that is a number and has gaps -> what stands for one


def read_log(source: EventSettings, num_items: int, counted: Sequence[str]) -> RawLog:
    """Read and check the log, a batch of `source.partition_events` rows at a time.

    Args:
        source: the settings.
        num_items: rows of the item table; SQL expressions may use it, as `num_items`.
        counted: columns of events whose values the census counts.
    """
    plain = (source.log.user, source.log.item, source.sessions.column, source.sessions.timeline)
    table = Table(source.log, "data.log", ids=plain)
    if "num_items" not in table.columns:
        table.lazy = table.lazy.with_columns(num_items=pl.lit(float(num_items)))
        table.columns.append("num_items")
    columns = _columns(source, table)
    form = _time_form(table, columns["time"], source.log)
    spill, census, parts = Spill(), Census(counted), []
    for batch, is_only in _with_only(table.batches(columns, source.partition_events)):
        if spill.folder is None and not is_only:
            spill.to_disk(source.spill)
        events = _checked(table, batch, source, form)
        census.add(events)
        ordered = events.drop("time").sort("time_ms", maintain_order=True)
        parts.append(spill.keep(f"raw-{len(parts)}", ordered))
    _check_times(table, census, source.log, form)
    said = form.said if form else RELATIVE
    missing = census.missing()
    contexts = {n: e for n, e in columns.items() if n.startswith("context.")}
    gaps = {n: e for n, e in contexts.items() if missing[n.removeprefix("context.")]}
    fills = means_of_first_rows(table, gaps)
    return RawLog(table=table, spill=spill, parts=parts, census=census, said=said, fills=fills)


def _with_only(batches: Iterator[pl.DataFrame]) -> Iterator[tuple[pl.DataFrame, bool]]:
    """Each batch, and whether there is no other."""
    first, second = next(batches), next(batches, None)
    yield first, second is None
    if second is not None:
        yield second, False
    for batch in batches:
        yield batch, False


def _checked(
    table: Table, events: pl.DataFrame, source: EventSettings, form: TimeForm | None
) -> pl.DataFrame:
    events = _with_ids(table, events)
    events = _with_times(table, events, source.log, form)
    for name in [n for n in events.columns if n in source.tasks or n.startswith("label.")]:
        events = _binary(table, events, name)
    for name in [n for n in _FLAGS if n in events.columns]:
        events = _binary(table, events, name).with_columns(pl.col(name).cast(pl.Boolean))
    for name in [n for n in events.columns if n.startswith("context.")]:
        events = checked_context(table, events, name)
    events = _with_dwell(table, events)
    return _with_propensity(table, events)


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
            named = pl.col(name).is_not_null() & (pl.col(name).str.strip_chars() != "")
            table.require(events, name, named, "an id in every row", _NO_ID.format(name))
    return events


def _time_form(table: Table, time: pl.Expr, log: LogTable) -> TimeForm | None:
    """How times are written; None for a relative clock."""
    if log.time_unit == RELATIVE:
        return None
    first = table.head(time.alias("time"), _SAMPLE)
    try:
        return time_form(first, log.time_unit, log.time_zone)
    except SchemaError as error:
        raise SchemaError(
            f"data.log.time: {error.what}",
            got=error.got,
            expected=error.expected,
            mend=error.mend,
        ) from error


def _with_times(
    table: Table, events: pl.DataFrame, log: LogTable, form: TimeForm | None
) -> pl.DataFrame:
    """Events with `time_ms`, and with `local_day` and `ms_of_day` where the clock has days."""
    table.require(events, "time", pl.col("time").is_not_null(), "a time in every row")
    if form is None:
        return events.with_columns(time_ms=pl.col("time").cast(pl.Int64))
    times = form.milliseconds(events["time"])
    unread = events.filter(times.is_null())
    if unread.height:
        raise table.refused(
            unread,
            "time",
            f"a time as most others are, on the clocks of {form.zone}: {form.said}",
            mend="is data.log.time_zone right? Its clocks skip an hour in spring. Else write times "
            "such as 2024-01-31T18:30:00+02:00, or leave the row out by data.log.where",
        )
    found = None if _possible(times) else outlier(times, log.max_days)
    if found is not None:
        raise _far(table, events[found[0]], log, form, found[1])
    events = events.with_columns(time_ms=times.round().cast(pl.Int64))
    local_day, ms_of_day = local_days(pl.col("time_ms"), log.time_zone)
    return events.with_columns(
        local_day=local_day.cast(pl.Int32), ms_of_day=ms_of_day.cast(pl.Int32)
    )


def _possible(times: pl.Series) -> bool:
    return bool(times.is_between(EARLIEST_MS, LATEST_MS, closed="left").all())


def _check_times(table: Table, census: Census, log: LogTable, form: TimeForm | None) -> None:
    """No time may lie `log.max_days` from the median of all, and not all may be equal."""
    if form is None:
        return
    extremes, median = census.extremes(), census.median_ms()
    limit = log.max_days * DAY_MS
    for row in (extremes[0], extremes[1]):
        if abs(row["time_ms"][0] - median) > limit + HOUR_MS:
            num = max(census.num_beyond(median - limit, median + limit), 1)
            why = (
                f"{date_said(row['time_ms'][0])}, where the median of all rows is "
                f"{date_said(median)} ({num} such rows)"
            )
            raise _far(table, row, log, form, why)
    if extremes["time_ms"].n_unique() == 1 and census.num_rows > 1:
        raise SchemaError(
            "data.log.time holds one value only, so events have no order",
            got=f"{extremes['time'][0]} in all {census.num_rows} rows",
        )


def _far(table: Table, row: pl.DataFrame, log: LogTable, form: TimeForm, why: str) -> SchemaError:
    return table.refused(
        row,
        "time",
        f"1990 to 2100, within data.log.max_days={log.max_days} of the median",
        why=f", which as {form.said} is {why},",
        mend="set data.log.time_unit to s, ms, us or ns, or leave the row out by data.log.where",
    )


def _binary(table: Table, events: pl.DataFrame, name: str) -> pl.DataFrame:
    """`name` as UInt8 0/1; text such as "true" counts."""
    column, dtype = pl.col(name), events.schema[name]
    if dtype == pl.String:
        text = column.str.strip_chars().str.to_lowercase()
        value = pl.when(text.is_in(YES)).then(1).when(text.is_in(NO)).then(0)
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
    mend = "bound it, as in greatest(coalesce(seconds, 0), 0), or leave rows out by data.log.where"
    good = value.is_finite() & (value >= 0)
    table.require(events, "dwell_s", good, "finite seconds >= 0", mend)
    return events


def _with_propensity(table: Table, events: pl.DataFrame) -> pl.DataFrame:
    if "propensity" not in events.columns:
        return events.with_columns(propensity=pl.lit(None, pl.Float64))
    events = _numbers(table, events, "propensity")
    value = pl.col("propensity")
    within = value.is_null() | ((value > 0) & (value <= 1))
    mend = "as in CASE WHEN p > 0 AND p <= 1 THEN p END; log-probabilities go through exp(...)"
    said = "in (0, 1], or nothing where it is unknown"
    table.require(events, "propensity", within, said, mend)
    return events


def _numbers(table: Table, events: pl.DataFrame, name: str) -> pl.DataFrame:
    before = events[name]
    cast = events.with_columns(pl.col(name).cast(pl.Float64, strict=False).alias("_cast"))
    lost = cast.filter(pl.col("_cast").is_null() & before.is_not_null())
    if lost.height:
        raise table.refused(lost, name, "numbers")
    return cast.with_columns(pl.col("_cast").alias(name)).drop("_cast")


def without_repeats(events: pl.DataFrame, log: LogTable) -> pl.DataFrame:
    """Events [E] without those whose user, item and time are an earlier row's."""
    if log.duplicates == "keep":
        return events
    key = ["user_id", "item_id", "time_ms", *({"session_id", "position"} & set(events.columns))]
    # Most logs repeat nothing, which one column of hashes tells at a third of the cost.
    hashed = pl.sum_horizontal(pl.col(name).hash(seed) for seed, name in enumerate(sorted(key)))
    if events.select(hashed.n_unique()).item() == events.height:
        return events
    return events.unique(key, keep="first", maintain_order=True)
