"""A scorer of the default size and an index over ten million items, under a company's ids.

    python -m benchmarks.serving_scale.setting FOLDER

Weights are random: what an answer costs does not depend on them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from recomind.artifacts import Manifest, is_complete
from recomind.data import TableCatalogue
from recomind.export import ExportRecord, RawInputs, export_policy
from recomind.policy import PolicyConfig, QNetwork
from recomind.ranker import RankerConfig, SessionRanker
from recomind.retrieval import RetrievalConfig, TwoTower
from recomind.retrieval.retrieval import index_items
from recomind.retrieval.two_tower import tower_shape
from recomind.streams import make_generator

NUM_ITEMS, NUM_EVENTS, NUM_BODIES, NUM_WANTED = 10_000_000, 20, 500, 10
TASKS, FEATURES, NUM_DENSE = ("watch_10s", "like"), ("age", "tenure", "hour", "weekday"), 4


def write_artifacts(folder: Path) -> None:
    """Write `scorer` and `index`, unless they are there."""
    if is_complete(folder / "scorer") and is_complete(folder / "index"):
        return
    generator = make_generator(0)
    catalogue = TableCatalogue(
        torch.randn(1, NUM_ITEMS, NUM_DENSE, generator=generator),
        torch.randint(50, (NUM_ITEMS, 1), generator=generator),
        dense_names=[f"number_{index}" for index in range(NUM_DENSE)],
        categorical_names=("topic",),
        vocab_sizes=(50,),
    )
    if not is_complete(folder / "scorer"):
        _write_scorer(folder / "scorer", catalogue)
    if not is_complete(folder / "index"):
        config = RetrievalConfig(min_recall=0.0)
        model = TwoTower(tower_shape(catalogue, len(FEATURES), config), make_generator(0))
        work = folder / "index.build"
        index_items(model, catalogue, config, work, lambda done, _: print(done, flush=True)).save(
            folder / "index", Manifest(kind="index")
        )


def _write_scorer(folder: Path, catalogue: TableCatalogue) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ranker = SessionRanker(catalogue, TASKS, len(FEATURES), RankerConfig())
        network = QNetwork(ranker, {"watch_10s": 1.0, "like": 0.5}, PolicyConfig())
    record = ExportRecord(
        config={},
        seed=0,
        released=True,
        reasons=[],
        user_feature_names=FEATURES,
        inputs={"round_0/policy": "benchmark"},
        judged="benchmark",
        raw=RawInputs(item_ids=[name_of(row) for row in range(NUM_ITEMS)]),
    )
    export_policy(folder, network.eval(), record, max_catalogue_items=NUM_ITEMS)


def name_of(row: int) -> str:
    """What the company calls an item."""
    return f"sku-{row:08d}"


def make_bodies() -> list[dict[str, Any]]:
    """Bodies of POST /recommend: 20 events, ten items wanted of the whole catalogue."""
    generator = make_generator(1)
    return [_body(user, generator) for user in range(NUM_BODIES)]


def _body(user: int, generator: torch.Generator) -> dict[str, Any]:
    features = torch.randn(len(FEATURES), generator=generator).tolist()
    shown = torch.randint(NUM_ITEMS, (NUM_EVENTS,), generator=generator).tolist()
    return {
        "user_id": f"user {user}",
        "user_features": dict(zip(FEATURES, features, strict=True)),
        "session_id": f"session {user}",
        "step": 5,
        "gap_s": 8.0,
        "history": [
            {
                "item_id": name_of(item),
                "feedback": {"watch_10s": item % 2 == 0},
                "dwell_s": 9.0,
                "gap_s": 9.5,
            }
            for item in shown
        ],
        "num": NUM_WANTED,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_artifacts(Path(sys.argv[1]))
