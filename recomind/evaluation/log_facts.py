"""How much a report rests on: events, sessions, users and days of the logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from recomind.data.parquet import scan_checked
from recomind.data.sessions import EVENTS
from recomind.data.times import EARLIEST_MS


def log_facts(folders: Sequence[Path]) -> dict[str, Any]:
    """`{num_events, num_sessions, num_users, first_day, last_day}` of sessions artifacts together.

    Events before the log, which only stand in histories, are not counted. The days are ISO dates,
    or None where the log has no dates, such as that of a world.
    """
    day = pl.from_epoch("time_ms", "ms").dt.date()
    parts = [
        scan_checked(Path(folder) / EVENTS, "sessions").select("user_id", "position", "time_ms")
        for folder in folders
    ]
    logged = pl.concat(parts).filter(pl.col("position") >= 0)
    (found,) = (
        logged.select(
            num_events=pl.len(),
            num_sessions=(pl.col("position") == 0).sum(),
            num_users=pl.col("user_id").n_unique(),
            first_day=day.min().cast(pl.String),
            last_day=day.max().cast(pl.String),
            dated=pl.col("time_ms").min() >= EARLIEST_MS,
        )
        .collect()
        .to_dicts()
    )
    if not found.pop("dated"):
        found |= {"first_day": None, "last_day": None}
    return found
