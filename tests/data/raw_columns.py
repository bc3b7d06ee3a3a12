"""The feed with contexts and users of every kind, and requests that name its columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recomind.data import Logs, make_source
from tests.data.feed import feed_settings, write_feed, write_logs

ZONE = "Europe/Berlin"


def with_contexts(log: pl.DataFrame) -> pl.DataFrame:
    """Text with gaps and a value that training lacks, integers, booleans, numbers with gaps."""
    rng = np.random.default_rng(3)
    device = [("car", "phone", None)[at] for at in rng.integers(0, 3, log.height)]
    device[-3] = "fridge"  # on the last days, which train nothing
    battery = [None if luck < 0.2 else 100 * luck for luck in rng.random(log.height)]
    return log.with_columns(
        pl.Series("device", device),
        pl.Series("level", rng.integers(1, 4, log.height)),
        pl.Series("paid", rng.random(log.height) < 0.5),
        pl.Series("battery", battery, dtype=pl.Float64),
    )


def with_gap(users: pl.DataFrame) -> pl.DataFrame:
    """Users of whom one has no age."""
    return users.with_columns(age=pl.when(pl.col("uid") != "user-3").then(pl.col("age")))


def prepared(folder: Path, **changes: Any) -> tuple[pl.DataFrame, Logs]:
    """The raw log in the order of its events, and what training sees of it, in `sessions`."""
    write_feed(folder, log=with_contexts, users=with_gap)
    settings = feed_settings(
        folder,
        context=["device", "level", "paid", "battery"],
        log={"time_zone": ZONE},
        rates={"by": ["user", "item"]},
        **changes,
    )
    logs = make_source(settings).read()
    write_logs(folder / "sessions", logs)
    log = pl.read_parquet(folder / "log.parquet").join(
        pl.read_parquet(folder / "users.parquet"), on="uid"
    )
    return log.sort("ts"), logs


def columns_of(row: dict[str, Any]) -> dict[str, Any]:
    """A row's raw columns, as a request names them."""
    names = ("device", "level", "paid", "battery", "age", "country")
    return {name: row[name] for name in names}
