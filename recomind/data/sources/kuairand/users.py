"""User and context features of an event, from strictly earlier events of the same user.

Events of one user at the same millisecond do not see each other. Rates are of surprise, as in
`recomind.data.sources.kuairand.rates`, and smoothed: (sum + m * prior) / (n + m). Ours.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from recomind.data.running import Earlier
from recomind.data.sources.kuairand.files import CODES
from recomind.data.sources.kuairand.history import Prior
from recomind.data.sources.kuairand.rates import RATED

RECENT = 5  # events in the recent rates
UTC_OFFSET_MS = 8 * 3_600_000  # Asia/Shanghai, no summer time since 1991
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_LONG_AGO_HOURS = 720.0
_RARE = 0.005  # a one-hot column needs this share of the training rows
_WINDOWS = {"3min": 0.05, "1h": 1.0, "24h": 24.0}


def with_user_rates(events: pl.DataFrame, prior: Prior, smoothing: float) -> pl.DataFrame:
    """Events with `beyond_user_<task>`: surprise minus the user's own rate before the event.

    Adds the user's columns of `Prior.users` as well, 0 where nothing is known.
    """
    events = events.join(prior.users, on="user_id", how="left", maintain_order="left")
    known = pl.col("prior_sum", "prior_num", "prior_recent", "prior_seen")
    events = events.with_columns(known.fill_null(0.0))
    earlier = Earlier(events["time_ms"].to_numpy(), events["user_id"].to_numpy())
    columns = {}
    for task in RATED:
        surprise = events[f"surprise_{task}"].to_numpy()
        rate = _rate(earlier, events, surprise, smoothing)
        columns[f"beyond_user_{task}"] = pl.Series(surprise - rate)
    return events.with_columns(**columns)


def user_features(
    events: pl.DataFrame, users: pl.DataFrame, train: pl.Series, smoothing: float
) -> pl.DataFrame:
    """Features [E, U] float64, one column each, not yet standardised.

    Args:
        events: with the columns of `with_user_rates`, and `beyond_item_<task>`: surprise minus
            the video's rate on earlier days.
        users: the user table.
        train: [E] bool, the rows that decide which one-hot columns exist.
        smoothing: pseudo-events `m` of a running rate.
    """
    events = events.join(users, on="user_id", how="left", maintain_order="left")
    time, user, tab = (events[name].to_numpy() for name in ("time_ms", "user_id", "tab"))
    earlier, in_tab = Earlier(time, user), Earlier(time, user, tab)
    columns = _activity(events, earlier, in_tab)
    for task in RATED:
        columns |= _rates(task, events, earlier, in_tab, smoothing)
    return pl.DataFrame(columns).hstack(
        events.select(
            *(pl.col(f"base_{task}").alias(f"tab_rate_{task}") for task in RATED),
            *_clock(),
            *_profile(),
            *_one_hot(events["tab"], train, "tab"),
            *_one_hot(events["user_active_degree"], train, "degree"),
        )
    )


def _activity(events: pl.DataFrame, earlier: Earlier, in_tab: Earlier) -> dict[str, np.ndarray]:
    hours = np.nan_to_num(earlier.elapsed() / _HOUR_MS, nan=_LONG_AGO_HOURS)
    log_dwell, count = events["log_dwell"].to_numpy(), earlier.count()
    columns = {
        "log_events": np.log1p(count),
        "log_events_in_tab": np.log1p(in_tab.count()),
        "log_events_before_log": np.log1p(events["prior_seen"].to_numpy()),
        "recent_before_log": events["prior_recent"].to_numpy(),
        "log_hours_since": np.log1p(np.minimum(hours, _LONG_AGO_HOURS)),
        "mean_log_dwell_s": earlier.total(log_dwell) / (count + 1.0),
        "last_log_dwell_s": earlier.recent(log_dwell, 1),
    }
    for name, window_hours in _WINDOWS.items():
        within = earlier.count_since(int(window_hours * _HOUR_MS))
        columns[f"log_events_{name}"] = np.log1p(within)
    return columns


def _rate(earlier: Earlier, events: pl.DataFrame, value: np.ndarray, m: float) -> np.ndarray:
    total = earlier.total(value) + events["prior_sum"].to_numpy()
    return total / (earlier.count() + events["prior_num"].to_numpy() + m)


def _rates(
    task: str, events: pl.DataFrame, earlier: Earlier, in_tab: Earlier, m: float
) -> dict[str, np.ndarray]:
    """Of the user, of the user in this tab, of the last few events, and the last one's surprise."""
    value = events[f"beyond_item_{task}"].to_numpy()
    rate = _rate(earlier, events, value, m)
    few = np.minimum(earlier.count(), RECENT)
    return {
        f"rate_{task}": rate,
        f"rate_in_tab_{task}": (in_tab.total(value) + m * rate) / (in_tab.count() + m),
        f"recent_{task}": earlier.recent(value, RECENT) / (few + 1.0),
        f"last_{task}": earlier.recent(value, 1),
    }


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
