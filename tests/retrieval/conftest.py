"""A small world of tags: users like the items of one tag, and their features say which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch

from recomind.artifacts import Manifest
from recomind.data import SessionDataset, TableCatalogue, write_sessions

NUM_TAGS = 5


def tag_catalogue(num_items: int, later: float | None = None) -> TableCatalogue:
    """Item i has tag i modulo 5; two dense features spread the items of a tag.

    With `later`, a second snapshot holds that value in every dense feature.
    """
    item = torch.arange(num_items)
    dense = torch.stack([torch.cos(item.float()), torch.sin(item.float())], dim=1)
    return TableCatalogue(
        torch.stack([dense] if later is None else [dense, torch.full_like(dense, later)]),
        (item % NUM_TAGS)[:, None],
        dense_names=("cos", "sin"),
        categorical_names=("tag",),
        vocab_sizes=(NUM_TAGS,),
    )


def tag_events(num_sessions: int, num_items: int, seed: int) -> pl.DataFrame:
    """Sessions of 4 random items each; liked where the item has the user's tag."""
    generator = torch.Generator().manual_seed(seed)
    user = torch.arange(num_sessions).repeat_interleave(4)
    item = torch.randint(num_items, (len(user),), generator=generator)
    tag = user % NUM_TAGS
    liked = item % NUM_TAGS == tag
    position = torch.arange(4).repeat(num_sessions)
    columns = {
        "history_id": user,
        "session_id": user,
        "user_id": user,
        "item_id": item,
        "time_ms": torch.arange(len(user)),
    }
    frame = pl.DataFrame({name: value.numpy() for name, value in columns.items()})
    return frame.with_columns(
        pl.Series("position", position.numpy(), dtype=pl.Int32),
        pl.Series("dwell_s", liked.numpy() * 10.0, dtype=pl.Float32),
        pl.Series("left", (position == 3).numpy()),
        pl.lit(True).alias("left_known"),
        pl.lit(1.0 / num_items).alias("propensity"),
        pl.when(pl.col("user_id") % 4 == 0)
        .then(pl.lit("calibration"))
        .otherwise(pl.lit("train"))
        .alias("split"),
        (pl.col("user_id") % 10 == 3).alias("holdout"),
        pl.lit(0, dtype=pl.Int32).alias("snapshot"),
        pl.Series("like", liked.numpy(), dtype=pl.UInt8),
        pl.Series("hide", (~liked).numpy(), dtype=pl.UInt8),
        *(pl.Series(f"u_tag{t}", (tag == t).numpy(), dtype=pl.Float32) for t in range(NUM_TAGS)),
    )


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SessionDataset]:
    """`make(num_sessions, num_items, later=None)`: a dataset that went through disk."""

    def make(num_sessions: int, num_items: int, later: float | None = None) -> SessionDataset:
        folder: Path = tmp_path_factory.mktemp("sessions") / "artifact"
        events = tag_events(num_sessions, num_items, seed=0)
        write_sessions(
            folder,
            events,
            tag_catalogue(num_items, later),
            tasks=["like", "hide"],
            manifest=Manifest(kind="sessions"),
        )
        return SessionDataset.load([folder], history_length=10)

    return make


@pytest.fixture(scope="session")
def make_catalogue() -> Callable[[int], TableCatalogue]:
    """`make(num_items)`: the catalogue of this world."""
    return tag_catalogue


@pytest.fixture(scope="session")
def dataset(make_dataset: Callable[..., SessionDataset]) -> SessionDataset:
    """3,000 sessions of 4 events over 400 items."""
    return make_dataset(3000, 400)
