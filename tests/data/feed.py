"""A small news feed in files of its own layout."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recomind.artifacts import Manifest
from recomind.data import Logs, write_sessions

START_MS = 1_714_521_600_000  # 1 May 2024, 00:00 UTC
DAY_MS = 86_400_000
TABLES = ("log", "items", "users")


def feed_log(num: int = 300, seed: int = 0, num_days: int = 7) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    ms = START_MS + np.sort(rng.choice(num_days * 24 * 60, num, replace=False)) * 60_000
    return pl.DataFrame(
        {
            "uid": [f"user-{u}" for u in rng.integers(0, 12, num)],
            "article": [f"a{i}" for i in rng.integers(0, 20, num)],
            "ts": ms,
            "clicked": rng.integers(0, 2, num),
            "reported": (rng.random(num) < 0.05).astype(int),
            "read_seconds": rng.exponential(10.0, num).round(2),
            "surface": rng.choice(["home", "push"], num),
            "p_logged": np.full(num, 0.05),
        }
    )


def feed_items() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    return pl.DataFrame(
        {
            "id": [f"a{i}" for i in range(20)],
            "section": ["sport", "politics"] * 10,
            "topics": [["x", "y"], ["y"], [], ["z", "x"]] * 5,
            "words": rng.integers(100, 2000, 20),
            "published": ["2024-04-20"] * 20,
            "embedding": rng.normal(size=(20, 3)).round(3).tolist(),
        }
    )


def feed_users() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "uid": [f"user-{i}" for i in range(12)],
            "age": range(20, 32),
            "country": ["de", "fr"] * 6,
        }
    )


SETTINGS: dict[str, Any] = {
    "source": "table",
    "log": {"user": "uid", "item": "article", "time": "ts", "dwell_s": "read_seconds"},
    "tasks": {"clicked": "clicked", "read_10s": "read_seconds > 10", "reported": "reported"},
    "unwanted": ["reported"],
    "context": ["surface"],
    "items": {
        "id": "id",
        "numbers": ["words"],
        "categories": ["section"],
        "tags": ["topics"],
        "vectors": ["embedding"],
        "published": "published",
    },
    "users": {"id": "uid", "numbers": ["age"], "categories": ["country"]},
    "rates": {
        "of": ["clicked"],
        "by": ["user", "item", "section", "surface", ["user", "surface"], ["user", "section"]],
    },
}


def feed_settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """`SETTINGS` with the paths of `folder`; a changed group is merged, None leaves it out."""
    settings = copy.deepcopy(SETTINGS)
    for name in TABLES:
        found = sorted(folder.glob(f"{name}.*"))
        settings[name]["path"] = str(found[0]) if found else str(folder / f"{name}.parquet")
    for name, value in changes.items():
        if value is None:
            settings.pop(name)
        elif isinstance(value, Mapping) and name != "tasks":
            settings[name] = {**settings.get(name, {}), **value}
        else:
            settings[name] = value
    return settings


def write_feed(
    folder: Path,
    kind: str = "parquet",
    **changes: Callable[[pl.DataFrame], pl.DataFrame],
) -> Path:
    """The three tables, each changed by the function of its name; lists only go into Parquet."""
    made = {"log": feed_log(), "items": feed_items(), "users": feed_users()}
    for name, table in made.items():
        table = changes[name](table) if name in changes else table
        nested = any(dtype.is_nested() for dtype in table.dtypes)
        ending = "parquet" if nested else kind
        getattr(table, f"write_{ending}")(folder / f"{name}.{ending}")
    return folder


def write_logs(folder: Path, logs: Logs) -> None:
    """The artifact that `prepare-data` makes of logs."""
    write_sessions(
        folder,
        logs.events,
        logs.catalogue,
        tasks=logs.tasks,
        manifest=Manifest(kind="sessions"),
        extra=logs.facts,
        tables=logs.tables,
    )
