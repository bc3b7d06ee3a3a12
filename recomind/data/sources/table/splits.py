"""Which events train, calibrate and test, and whose users are kept for hold-out simulators."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass

import polars as pl
import torch

from recomind.data.ids import hash_keys
from recomind.data.sessions import SPLITS
from recomind.data.sources.table.config import SplitRules
from recomind.errors import ConfigError, SchemaError, did_you_mean
from recomind.streams import hash_uniform


@dataclass(frozen=True, kw_only=True, slots=True)
class Days:
    """The days of a log on its own clocks, counted from 1970."""

    first: int
    last: int
    num_seen: int  # with events

    @property
    def num(self) -> int:
        """First to last."""
        return self.last - self.first + 1


_MIN_DAYS = 4  # train, calibration, and two of test


def with_splits(events: pl.DataFrame, rules: SplitRules, days: Days | None) -> pl.DataFrame:
    """Events [E] with `split`.

    Args:
        events: with `day` from 0, or a column `split`.
        rules: the settings.
        days: of the whole log; None where its clock has none.
    """
    if "split" in events.columns:
        return events.with_columns(_given(events).alias("split"))
    assert days is not None
    return events.with_columns(split=_by_day(days, rules))


def are_held_out(ids: pl.Series, rules: SplitRules) -> pl.Series:
    """[N] bool: whether users are kept for hold-out simulators, by a hash of their ids [N]."""
    keys = torch.from_numpy(hash_keys(ids))
    return pl.Series((hash_uniform(keys, rules.holdout_seed) < rules.holdout_share).numpy())


def _given(events: pl.DataFrame) -> pl.Series:
    split = events["split"].cast(pl.String)
    for name in split.unique().to_list():
        if name not in SPLITS:
            raise SchemaError(
                "data.splits.column holds an unknown split",
                got=repr(name),
                expected=f"one of {', '.join(SPLITS)}",
                mend=did_you_mean(str(name), SPLITS),
            )
    return split


def _by_day(days: Days, rules: SplitRules) -> pl.Expr:
    if days.num < _MIN_DAYS:
        raise SchemaError(
            "the log is too short to be split by time",
            got=f"{days.num} days",
            expected=f"at least {_MIN_DAYS}",
            mend="give more days, or a column with the splits in data.splits.column",
        )
    test = _day_index(rules.test_from, days.first, days.num - 2)
    calibration = _day_index(rules.calibration_from, days.first, test - 1)
    day = pl.col("day")
    return (
        pl.when(day >= test)
        .then(pl.lit("test"))
        .when(day >= calibration)
        .then(pl.lit("calibration"))
        .otherwise(pl.lit("train"))
    )


def require_each(splits: Collection[str], rules: SplitRules, days: Days | None) -> None:
    """Raise ConfigError unless the splits of a log's events are all there."""
    absent = {"train", "calibration", "test"} - set(splits)
    if not absent:
        return
    there = f"the column has {sorted(splits)}"
    if days is not None:
        first, last = (
            datetime.date(1970, 1, 1) + datetime.timedelta(days=d) for d in (days.first, days.last)
        )
        there = f"the log has {first} to {last}, {days.num_seen} days with events"
    raise ConfigError(
        f"no events for {', '.join(sorted(absent))}",
        got=f"calibration_from={rules.calibration_from!r}, test_from={rules.test_from!r}",
        expected=f"days such that each split has some; {there}",
    )


def _day_index(text: str, first_day: int, default: int) -> int:
    if not text:
        return default
    return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days - first_day
