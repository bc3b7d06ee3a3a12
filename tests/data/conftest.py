"""A small log in the layout of the official KuaiRand-Pure files, and a small catalogue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recomind.data import TableCatalogue
from recomind.data.sources.kuairand.columns import CODES
from recomind.data.sources.kuairand.files import USERS, VIDEOS

LOG = "log_standard_4_22_to_5_08_pure.csv"
START_MS = 1_650_816_000_000  # 25 April 2022, 00:00 in Asia/Shanghai
HOUR_MS = 3_600_000


def small_log(num: int = 400, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    played_ms = rng.integers(0, 30_000, num)
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, 12, num),
            "video_id": rng.integers(0, 20, num),
            "time_ms": START_MS + rng.choice(8 * 24 * 60, num, replace=False) * 60_000,
            "is_click": 0,
            "is_like": (rng.random(num) < 0.1).astype(int),
            "is_hate": (rng.random(num) < 0.02).astype(int),
            "long_view": (played_ms > 12_000).astype(int),
            "play_time_ms": played_ms,
            "is_rand": 0,
            "tab": rng.integers(0, 3, num),
        }
    )


def small_users() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": range(12),
            "user_active_degree": ["full_active", "high_active"] * 6,
            "follow_user_num": range(12),
            "fans_user_num": range(12),
            "friend_user_num": range(12),
            "register_days": range(100, 112),
            **dict.fromkeys(CODES, 1.0),
        }
    )


def small_videos() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "video_id": range(20),
            "author_id": [900 + i % 7 for i in range(20)],
            "video_type": ["NORMAL"] * 19 + ["AD"],
            "upload_dt": ["2022-04-10"] * 20,
            "video_duration": [None, *(1000.0 * i for i in range(1, 20))],
            "server_width": 720.0,
            "server_height": 1280.0,
            "music_type": [9.0, 4.0, None, 9.0] * 5,
            "tag": ["39", "2,39", None, "7"] * 5,
        }
    )


def small_history() -> pl.DataFrame:
    rng = np.random.default_rng(5)
    places = np.concatenate([np.arange(9) for _ in range(12)])
    return pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(12), 9),
            "pos": places,
            "video_id": rng.integers(0, 20, len(places)),
            "long_view": rng.integers(0, 2, len(places)),
        }
    )


@pytest.fixture
def official(tmp_path: Path) -> Callable[..., str]:
    """Writes the three files (any of them replaced, or left out with None); returns the folder."""

    def write(**tables: pl.DataFrame | None) -> str:
        given = {"log": small_log(), "users": small_users(), "videos": small_videos()} | tables
        names = {"log": LOG, "users": USERS, "videos": VIDEOS, "random": "log_random_x_pure.csv"}
        for name, table in given.items():
            if table is not None:
                table.write_csv(tmp_path / names[name])
        return str(tmp_path)

    return write


def small_catalogue(num_items: int = 10, num_snapshots: int = 3) -> TableCatalogue:
    generator = torch.Generator().manual_seed(0)
    return TableCatalogue(
        torch.randn(num_snapshots, num_items, 2, generator=generator),
        torch.randint(0, 4, (num_items, 1), generator=generator),
        dense_names=["age", "rate"],
        categorical_names=["tag"],
        vocab_sizes=[4],
    )


def small_events(seed: int = 0, num_timelines: int = 4) -> pl.DataFrame:
    """Timelines of 0 to 3 events before the log and 1 to 3 sessions of 1 to 4 events."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    session = 100
    for timeline in range(num_timelines):
        positions = [-1] * int(rng.integers(0, 4))
        lengths = rng.integers(1, 5, rng.integers(1, 4)).tolist()
        for time, (length, position) in enumerate(
            [(0, p) for p in positions] + [(n, p) for n in lengths for p in range(n)]
        ):
            session += position == 0
            rows.append(
                {
                    "history_id": 50 + timeline,
                    "session_id": session,
                    "position": position,
                    "user_id": timeline,
                    "time_ms": 1000 * time,
                    "item_id": int(rng.integers(1, 10)),
                    "click": int(rng.integers(0, 2)),
                    "hide": int(rng.integers(0, 2)),
                    "dwell_s": float(rng.integers(1, 9)),
                    "left": position == length - 1 and length > 0,
                    "left_known": True,
                    "propensity": None if position < 0 else 0.25,
                    "split": "history" if position < 0 else str(rng.choice(["train", "test"])),
                    "holdout": timeline % 2 == 0,
                    "snapshot": int(rng.integers(0, 3)),
                    "u_age": float(rng.normal()),
                    "u_rate": float(rng.normal()),
                }
            )
    return pl.DataFrame(
        rows,
        schema_overrides={
            "position": pl.Int32,
            "snapshot": pl.Int32,
            "click": pl.UInt8,
            "hide": pl.UInt8,
            "dwell_s": pl.Float32,
            "u_age": pl.Float32,
            "u_rate": pl.Float32,
            "propensity": pl.Float64,
        },
    )
