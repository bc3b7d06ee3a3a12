"""A scorer of the default size over 10,000 items, and bodies as a feed would send them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from recomind.data import TableCatalogue
from recomind.export import ExportRecord, export_policy
from recomind.policy import PolicyConfig, QNetwork
from recomind.ranker import RankerConfig, SessionRanker
from recomind.streams import make_generator

NUM_ITEMS, NUM_CANDIDATES, NUM_EVENTS, NUM_BODIES = 10_000, 100, 20, 200
TASKS, FEATURES = ("watch_10s", "like"), ("age", "tenure", "hour", "weekday")
NUM_DENSE = 8


def write_scorer(folder: Path) -> None:
    """Random weights: what a request costs does not depend on them."""
    shutil.rmtree(folder, ignore_errors=True)
    export_policy(folder, random_network(random_catalogue(NUM_ITEMS, NUM_DENSE)), record())


def random_catalogue(num_items: int, num_dense: int) -> TableCatalogue:
    """Items with numbers and a topic."""
    generator = make_generator(0)
    return TableCatalogue(
        torch.randn(1, num_items, num_dense, generator=generator),
        torch.randint(50, (num_items, 1), generator=generator),
        dense_names=[f"number_{index}" for index in range(num_dense)],
        categorical_names=("topic",),
        vocab_sizes=(50,),
    )


def random_network(catalogue: TableCatalogue) -> QNetwork:
    """A policy of the default size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ranker = SessionRanker(catalogue, TASKS, len(FEATURES), RankerConfig())
        return QNetwork(ranker, {"watch_10s": 1.0, "like": 0.5}, PolicyConfig()).eval()


def record(**more: Any) -> ExportRecord:
    """What an export says of itself; `more` are further fields."""
    return ExportRecord(
        config={},
        seed=0,
        released=True,
        reasons=[],
        user_feature_names=FEATURES,
        inputs={"round_0/policy": "benchmark"},
        judged="benchmark",
        **more,
    )


def make_bodies() -> list[dict[str, Any]]:
    """Bodies of POST /rank: 20 events, 100 candidates."""
    generator = make_generator(1)
    return [_body(user, generator) for user in range(NUM_BODIES)]


def _body(user: int, generator: torch.Generator) -> dict[str, Any]:
    state = session_state(NUM_ITEMS, int, generator)
    pool = torch.randperm(NUM_ITEMS, generator=generator)[:NUM_CANDIDATES].tolist()
    return {"user_id": user} | state | {"item_ids": pool}


def session_state(
    num_items: int, id_of: Callable[[int], int | str], generator: torch.Generator
) -> dict[str, Any]:
    """The fields of a request that tell the session so far: 20 events of random items."""
    features = torch.randn(len(FEATURES), generator=generator).tolist()
    shown = torch.randint(num_items, (NUM_EVENTS,), generator=generator).tolist()
    return {
        "user_features": dict(zip(FEATURES, features, strict=True)),
        "step": 5,
        "gap_s": 8.0,
        "history": [
            {
                "item_id": id_of(item),
                "feedback": {"watch_10s": item % 2 == 0},
                "dwell_s": 9.0,
                "gap_s": 9.5,
            }
            for item in shown
        ],
    }
