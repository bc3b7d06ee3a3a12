"""User and context features of an event, from strictly earlier events of the same user.

Events of one user at the same millisecond do not see each other. Rates are of surprise, as in
`recomind.data.kuairand_rates`, and smoothed: (sum + m * prior) / (n + m). Ours.
"""

from __future__ import annotations

import math

import polars as pl

from recomind.data.kuairand_files import CODES
from recomind.data.kuairand_history import Prior
from recomind.data.kuairand_rates import RATED

RECENT = 5  # events in the recent rates
UTC_OFFSET_MS = 8 * 3_600_000  # Asia/Shanghai, no summer time since 1991
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_LONG_AGO_HOURS = 720.0
_RARE = 0.005  # a one-hot column needs this share of the training rows
_WINDOWS = {"3min": 0.05, "1h": 1.0, "24h": 24.0}
_MOMENT = ["user_id", "time_ms"]


def with_user_rates(events: pl.DataFrame, prior: Prior, smoothing: float) -> pl.DataFrame:
    """Events with `beyond_user_<task>`: surprise minus the user's own rate before the event.

    Adds the user's columns of `Prior.users` as well, 0 where nothing is known.
    """
    events = events.join(prior.users, on="user_id", how="left", maintain_order="left")
    events = events.with_columns(
        pl.col("prior_sum", "prior_num", "prior_recent", "prior_seen").fill_null(0.0),
        one=pl.lit(1.0),
    )
    return events.with_columns(
        (pl.col(f"surprise_{task}") - _rate(f"surprise_{task}", smoothing)).alias(
            f"beyond_user_{task}"
        )
        for task in RATED
    )


def user_features(
    events: pl.DataFrame, users: pl.DataFrame, train: pl.Series, smoothing: float
) -> pl.DataFrame:
    """Features [E, U] float64, one column each, not yet standardised.

    Args:
        events: sorted by user and time, with the columns of `with_user_rates`, and
            `beyond_item_<task>`: surprise minus the video's rate on earlier days.
        users: the user table.
        train: [E] bool, the rows that decide which one-hot columns exist.
        smoothing: pseudo-events `m` of a running rate.
    """
    events = events.join(users, on="user_id", how="left", maintain_order="left")
    features = events.select(
        *_activity(),
        *(rate for task in RATED for rate in _rates(task, smoothing)),
        *(pl.col(f"base_{task}").alias(f"tab_rate_{task}") for task in RATED),
        *_clock(),
        *_profile(),
    )
    return features.with_columns(
        *_one_hot(events["tab"], train, "tab"),
        *_one_hot(events["user_active_degree"], train, "degree"),
    )


def _before(column: str, *within: str) -> pl.Expr:
    """Sum of `column` over strictly earlier events of the user (with equal `within`)."""
    value = pl.col(column)
    return (value.cum_sum() - value).over("user_id", *within).first().over(*_MOMENT, *within)


def _recent(column: str, length: int) -> pl.Expr:
    """Sum of `column` over the last `length` strictly earlier events of the user."""
    total = pl.col(column).cum_sum() - pl.col(column)
    window = total - total.shift(length).fill_null(0.0)
    return window.over("user_id").first().over(_MOMENT)


def _within(hours: float) -> pl.Expr:
    """Number of strictly earlier events of the user in the last `hours`."""
    time = pl.col("time_ms")
    since = time.search_sorted(time - int(hours * _HOUR_MS), side="left")
    return (time.search_sorted(time, side="left") - since).cast(pl.Float64).over("user_id")


def _activity() -> list[pl.Expr]:
    previous = pl.col("time_ms").shift(1).over("user_id")
    hours = ((pl.col("time_ms") - previous) / _HOUR_MS).first().over(_MOMENT)
    seconds = _before("log_dwell") / (_before("one") + 1.0)
    return [
        _before("one").log1p().alias("log_events"),
        _before("one", "tab").log1p().alias("log_events_in_tab"),
        pl.col("prior_seen").log1p().alias("log_events_before_log"),
        pl.col("prior_recent").alias("recent_before_log"),
        hours.fill_null(_LONG_AGO_HOURS).clip(0, _LONG_AGO_HOURS).log1p().alias("log_hours_since"),
        *(_within(hours_).log1p().alias(f"log_events_{name}") for name, hours_ in _WINDOWS.items()),
        seconds.alias("mean_log_dwell_s"),
        _recent("log_dwell", 1).alias("last_log_dwell_s"),
    ]


def _rate(column: str, m: float) -> pl.Expr:
    total, count = _before(column) + pl.col("prior_sum"), _before("one") + pl.col("prior_num")
    return total / (count + m)


def _rates(task: str, m: float) -> list[pl.Expr]:
    """Of the user, of the user in this tab, of the last few events, and the last one's surprise."""
    column = f"beyond_item_{task}"
    rate = _rate(column, m)
    in_tab = (_before(column, "tab") + m * rate) / (_before("one", "tab") + m)
    recent = _recent(column, RECENT) / (_recent("one", RECENT) + 1.0)
    return [
        rate.alias(f"rate_{task}"),
        in_tab.alias(f"rate_in_tab_{task}"),
        recent.alias(f"recent_{task}"),
        _recent(column, 1).alias(f"last_{task}"),
    ]


def _clock() -> list[pl.Expr]:
    of_day = ((pl.col("time_ms") + UTC_OFFSET_MS) % _DAY_MS) / _DAY_MS * (2 * math.pi)
    return [of_day.sin().alias("hour_sin"), of_day.cos().alias("hour_cos")]


def _profile() -> list[pl.Expr]:
    names = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
    logs = [pl.col(name).log1p().alias(f"log_{name}") for name in names]
    return logs + [pl.col(name).fill_null(0.0).alias(name) for name in CODES]


def _one_hot(values: pl.Series, train: pl.Series, name: str) -> list[pl.Series]:
    """One 0/1 column a value that is not rare among the training rows; rare ones are all 0."""
    seen = values.filter(train)
    common = seen.value_counts().filter(pl.col("count") >= _RARE * len(seen))
    return [
        (values == value).cast(pl.Float64).alias(f"{name}_{value}")
        for value in common[values.name].sort()
    ]
