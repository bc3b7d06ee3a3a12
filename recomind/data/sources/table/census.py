"""What is known of a whole log once every batch of it has been read: who, what, when, how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import polars as pl

from recomind.data.sources.table.splits import Days

HOUR_MS = 3_600_000
_PENDING = 8  # tables that are merged at once
_EXTREME = ("_file", "_row", "time", "time_ms")


class Census:
    """Counts of the values of some columns, batch by batch.

    Args:
        columns: whose values are counted, where a batch has them.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.num_rows = 0
        self._missing: Counter[str] = Counter()
        self._columns = (*columns, "hour", "local_day")
        self._counts: dict[str, list[pl.DataFrame]] = {}
        self._extremes: list[pl.DataFrame] = []

    def add(self, events: pl.DataFrame) -> None:
        """Count a batch."""
        self.num_rows += events.height
        for name in [n for n in events.columns if n.startswith("context.") or n == "propensity"]:
            self._missing[name.removeprefix("context.")] += events[name].null_count()
        events = events.with_columns(hour=pl.col("time_ms") // HOUR_MS)
        for name in [n for n in self._columns if n in events.columns]:
            pending = self._counts.setdefault(name, [])
            counted = events.group_by(pl.col(name).alias("id")).agg(num=pl.len().cast(pl.Int64))
            pending.append(counted)
            if len(pending) >= _PENDING:
                self._counts[name] = [_merged(pending)]
        self._extremes.append(_ends(events.select(n for n in _EXTREME if n in events.columns)))

    @property
    def columns(self) -> list[str]:
        """Those that the log has."""
        return list(self._counts)

    def counts(self, column: str) -> pl.DataFrame:
        """`id` and `num` of each value, in no order; a null has a row of its own."""
        merged = _merged(self._counts[column])
        self._counts[column] = [merged]
        return merged

    def missing(self) -> dict[str, float]:
        """Share of the events that lack a value, of the columns that may have gaps."""
        return {name: num / self.num_rows for name, num in self._missing.items()}

    def extremes(self) -> pl.DataFrame:
        """The rows of the earliest and of the latest event."""
        return _ends(pl.concat(self._extremes))

    @property
    def last_ms(self) -> int:
        """The time of the latest event."""
        return int(self.extremes()["time_ms"][1])

    def days(self) -> Days | None:
        """The log's days; None where its clock has none."""
        if "local_day" not in self._counts:
            return None
        days = self.counts("local_day")["id"]
        first, last = int(days.min()), int(days.max())  # pyright: ignore[reportArgumentType]
        return Days(first=first, last=last, num_seen=len(days))

    def median_ms(self) -> float:
        """The median of the times, to the hour."""
        hours = self.counts("hour").sort("id")
        place = int((hours["num"].cum_sum() * 2 < self.num_rows).sum())
        return float(hours["id"][place] * HOUR_MS)

    def num_beyond(self, from_ms: float, to_ms: float) -> int:
        """How many events lie outside, to the hour."""
        hours, start = self.counts("hour"), pl.col("id") * HOUR_MS
        return int(hours.filter(~start.is_between(from_ms, to_ms))["num"].sum())


def bounds_of(counts: pl.DataFrame, num_rows: int) -> list[int]:
    """Values at which a column is cut so that about `num_rows` rows lie between two of them.

    Args:
        counts: `id`, integers, and `num`.
        num_rows: a value of more rows than that stands alone.
    """
    ordered = counts.sort("id")
    before = ordered["num"].cum_sum() - ordered["num"]
    firsts = ordered.with_columns(part=before // num_rows).unique("part", keep="first")
    return firsts["id"].sort().to_list()


def _ends(events: pl.DataFrame) -> pl.DataFrame:
    """The first of the earliest events, and of the latest."""
    time = events["time_ms"]
    first, last = time.arg_min(), time.arg_max()
    return events[[first or 0, last or 0]]


def _merged(tables: list[pl.DataFrame]) -> pl.DataFrame:
    if len(tables) == 1:
        return tables[0]
    return pl.concat(tables).group_by("id").agg(pl.col("num").sum())
