"""Logs with a signal that is known, and logs that come in blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from recomind.artifacts import Manifest
from recomind.data import SessionDataset, SessionStream, write_sessions
from recomind.data.sessions import ORDER
from recomind.streams import make_generator
from simulators.video_feed.world import TASKS
from tests.simulation.tiny import LENGTH, RANKER, tiny_catalogue, tiny_frame

QUICK = replace(RANKER, learning_rate=2e-2)  # finds what was planted in four epochs


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=make_generator(seed))


def even_topic(item_id: Tensor) -> Tensor:
    return tiny_catalogue().features(item_id).categorical[:, 0] % 2 == 0


def planted_frame(kept: Tensor | None = None) -> pl.DataFrame:
    """Items of even topics are watched with .95, the others with .05; events of `kept` only."""
    frame = tiny_frame().sort(*ORDER, maintain_order=True)
    item_id = torch.from_numpy(frame["item_id"].to_numpy().copy())
    watched = uniform(len(item_id)) < torch.where(even_topic(item_id), 0.95, 0.05)
    frame = frame.with_columns(
        pl.Series("watch_10s", watched.to(torch.uint8).numpy()),
        pl.lit(0, dtype=pl.Int64).alias("round_index"),
    )
    return frame if kept is None else frame.filter(pl.Series(kept[item_id].numpy()))


def dataset_of(frame: pl.DataFrame) -> SessionDataset:
    names = [name[2:] for name in frame.columns if name.startswith("u_")]
    return SessionDataset(
        frame, tiny_catalogue(), tasks=TASKS, user_feature_names=names, history_length=LENGTH
    )


def planted_dataset(kept: Tensor | None = None) -> SessionDataset:
    return dataset_of(planted_frame(kept))


def stream(folder: Path, max_block_events: int = 700) -> SessionStream:
    """The tiny log on disk, read in about seven blocks."""
    write_sessions(
        folder / "sessions",
        tiny_frame(),
        tiny_catalogue(),
        tasks=TASKS,
        manifest=Manifest(kind="sessions"),
    )
    return SessionStream.open([folder / "sessions"], LENGTH, max_block_events)
