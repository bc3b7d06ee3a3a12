"""The log of the benchmark, and what polars alone takes for it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

NUM_ITEMS, NUM_DAYS, EVENTS_A_USER = 10_000, 14, 50
START_MS, DAY_MS = 1_714_521_600_000, 86_400_000


def make(size: int, folder: Path) -> None:
    """A log of one Parquet file a day, with text ids, and its items."""
    rng, users = np.random.default_rng(0), max(size // EVENTS_A_USER, 10)
    (folder / "log").mkdir()
    for day in range(NUM_DAYS):
        num = size // NUM_DAYS + (day < size % NUM_DAYS)
        pl.DataFrame(
            {
                "uid": rng.integers(users, size=num),
                "article": rng.integers(NUM_ITEMS, size=num),
                "ts": START_MS + day * DAY_MS + np.sort(rng.integers(DAY_MS, size=num)),
                "read_s": rng.exponential(10.0, num).astype(np.float32),
                "clicked": rng.integers(0, 2, num, dtype=np.int8),
                "surface": rng.integers(0, 2, num, dtype=np.int8),
            }
        ).with_columns(
            pl.format("u{}", "uid").alias("uid"), pl.format("a{}", "article").alias("article")
        ).write_parquet(folder / "log" / f"day-{day:02d}.parquet")
    pl.DataFrame(
        {
            "id": [f"a{i}" for i in range(NUM_ITEMS)],
            "section": [f"s{i % 20}" for i in range(NUM_ITEMS)],
            "words": rng.integers(100, 2000, NUM_ITEMS),
        }
    ).write_parquet(folder / "items.parquet")


def plain(folder: Path) -> None:
    """The same files joined and sorted by polars alone."""
    log = pl.scan_parquet(folder / "log" / "*.parquet")
    items = pl.scan_parquet(folder / "items.parquet")
    joined = log.join(items, left_on="article", right_on="id", how="left").sort("uid", "ts")
    joined.sink_parquet(folder / "plain.parquet")


def main() -> None:
    stage, size, folder = sys.argv[1], int(float(sys.argv[2])), Path(sys.argv[3])
    {"make": lambda f: make(size, f), "polars": plain}[stage](folder)


if __name__ == "__main__":
    main()
