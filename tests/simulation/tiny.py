"""Logs of a small embedded world and what is fitted to them, made once for all rooms' tests."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import torch

from recomind.artifacts import Manifest
from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.data import SessionDataset, TableCatalogue, materialise, write_sessions
from recomind.ranker import RankerConfig, SessionRanker, fit_ranker, new_ranker
from recomind.simulation import SimulatorConfig, World, collect_sessions
from recomind.streams import make_generator
from simulators.video_feed.world import TASKS, VideoFeed

torch.set_num_threads(1)

NUM_ITEMS, NUM_SESSIONS, LENGTH, HORIZON, WARM = 300, 300, 14, 12, 6
WEIGHTS = {"watch_10s": 1.0, "hide": -2.0}
# Settings that a large log's defaults would not do for, so that tests do not move with those.
RANKER = RankerConfig(
    history_length=LENGTH,
    dim=8,
    hidden=16,
    id_buckets=61,
    batch_size=32,
    num_epochs=4,
    learning_rate=5e-3,
    wide_rate=1.0,
    dropout=0.1,
    id_dropout=0.3,
    average_rate=0.0,
    next_action_weight=0.0,
    patience=100,
)
SIMULATOR = SimulatorConfig(horizon=HORIZON, hidden=8, num_epochs=2, batch_size=256)


def tiny_world(**changes) -> VideoFeed:
    settings: dict[str, Any] = {
        "num_items": NUM_ITEMS,
        "horizon": HORIZON,
        "history_length": LENGTH,
    }
    settings |= {"warm_events": WARM} | changes
    return VideoFeed(**settings)


def tiny_pool() -> CandidatePool:
    config = CandidatesConfig(num_candidates=24, num_nearest=0, num_fresh=0, exclude_recent=4)
    return CandidatePool(config, NUM_ITEMS)


def collect(world: World, num_sessions=NUM_SESSIONS, **changes) -> pl.DataFrame:
    settings: dict[str, Any] = {
        "calibration_share": 0.25,
        "test_share": 0.25,
        "holdout_share": 0.5,
        "generator": make_generator(0),
    } | changes
    return collect_sessions(
        world,
        world.logging_policy(),
        tiny_pool(),
        num_sessions=num_sessions,
        user_feature_names=world.user_feature_names,
        **settings,
    )


@cache
def tiny_frame() -> pl.DataFrame:
    return collect(tiny_world())


@cache
def tiny_catalogue() -> TableCatalogue:
    return materialise(tiny_world().catalogue, NUM_ITEMS)


@cache
def tiny_dataset() -> SessionDataset:
    with tempfile.TemporaryDirectory() as folder:
        write_sessions(
            Path(folder) / "sessions",
            tiny_frame(),
            tiny_catalogue(),
            tasks=TASKS,
            manifest=Manifest(kind="sessions"),
        )
        return SessionDataset.load([Path(folder) / "sessions"], LENGTH)


@cache
def tiny_ranker(seed: int) -> SessionRanker:
    """A fitted ranker; copy it before changing it."""
    dataset = tiny_dataset()
    return fit_ranker(
        new_ranker(dataset, RANKER, seed),
        dataset,
        num_epochs=RANKER.num_epochs,
        seed=seed,
    )
