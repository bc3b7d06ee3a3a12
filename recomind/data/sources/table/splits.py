"""Which events train, calibrate and test, and whose users are kept for hold-out simulators."""

from __future__ import annotations

import datetime

import polars as pl
import torch

from recomind.data.ids import hash_keys
from recomind.data.sessions import SPLITS
from recomind.data.sources.table.config import SplitRules
from recomind.errors import ConfigError, SchemaError, did_you_mean
from recomind.streams import hash_uniform

_MIN_DAYS = 4  # train, calibration, and two of test


def with_splits(events: pl.DataFrame, rules: SplitRules) -> pl.DataFrame:
    """Events [E] with `split` and `holdout`.

    Args:
        events: with `local_day` since 1970 and `day` from 0, or a column `split`; and `user`.
        rules: the settings.
    """
    split = _given(events) if "split" in events.columns else _by_day(events, rules)
    events = events.with_columns(split.alias("split"))
    _require_each(events, rules)
    if "holdout" in events.columns:
        return events
    keys = torch.from_numpy(hash_keys(events["user"]))
    holdout = (hash_uniform(keys, rules.holdout_seed) < rules.holdout_share).numpy()
    return events.with_columns(holdout=pl.Series(holdout))


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


def _by_day(events: pl.DataFrame, rules: SplitRules) -> pl.Series:
    first_day, last_day = (int(events["local_day"].min()), int(events["local_day"].max()))  # pyright: ignore
    num_days = last_day - first_day + 1
    if num_days < _MIN_DAYS:
        raise SchemaError(
            "the log is too short to be split by time",
            got=f"{num_days} days",
            expected=f"at least {_MIN_DAYS}",
            mend="give more days, or a column with the splits in data.splits.column",
        )
    test = _day_index(rules.test_from, first_day, num_days - 2)
    calibration = _day_index(rules.calibration_from, first_day, test - 1)
    day = pl.col("day")
    split = (
        pl.when(day >= test)
        .then(pl.lit("test"))
        .when(day >= calibration)
        .then(pl.lit("calibration"))
        .otherwise(pl.lit("train"))
    )
    return events.select(split.alias("split"))["split"]


def _require_each(events: pl.DataFrame, rules: SplitRules) -> None:
    absent = {"train", "calibration", "test"} - set(events["split"].unique())
    if absent:
        raise ConfigError(
            f"no events for {', '.join(sorted(absent))}",
            got=f"calibration_from={rules.calibration_from!r}, test_from={rules.test_from!r}",
            expected=f"days such that each split has some; {_days(events)}",
        )


def _days(events: pl.DataFrame) -> str:
    if "local_day" not in events.columns:
        return f"the column has {events['split'].unique().sort().to_list()}"
    days = [
        datetime.date(1970, 1, 1) + datetime.timedelta(days=int(d))
        for d in events["local_day"].unique().sort()
    ]
    return f"the log has {days[0]} to {days[-1]}, {len(days)} days with events"


def _day_index(text: str, first_day: int, default: int) -> int:
    if not text:
        return default
    return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days - first_day
