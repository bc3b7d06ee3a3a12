"""A scorer of the default size and an index over ten million items, under a company's ids.

    python -m benchmarks.serving_scale.setting FOLDER

Weights are random: what an answer costs does not depend on them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.serving_load.setting import (
    FEATURES,
    random_catalogue,
    random_network,
    record,
    session_state,
)
from recomind.artifacts import Manifest, is_complete
from recomind.export import RawInputs, export_policy
from recomind.retrieval import RetrievalConfig, TwoTower
from recomind.retrieval.retrieval import index_items
from recomind.retrieval.two_tower import tower_shape
from recomind.streams import make_generator

NUM_ITEMS, NUM_BODIES, NUM_WANTED, NUM_DENSE = 10_000_000, 500, 10, 4


def write_artifacts(folder: Path) -> None:
    """Write `scorer` and `index`, unless they are there."""
    if is_complete(folder / "scorer") and is_complete(folder / "index"):
        return
    catalogue = random_catalogue(NUM_ITEMS, NUM_DENSE)
    if not is_complete(folder / "scorer"):
        raw = RawInputs(item_ids=[name_of(row) for row in range(NUM_ITEMS)])
        network = random_network(catalogue)
        export_policy(folder / "scorer", network, record(raw=raw), max_catalogue_items=NUM_ITEMS)
    if not is_complete(folder / "index"):
        config = RetrievalConfig(min_recall=0.0)
        model = TwoTower(tower_shape(catalogue, len(FEATURES), config), make_generator(0))
        work = folder / "index.build"
        index_items(model, catalogue, config, work, lambda done, _: print(done, flush=True)).save(
            folder / "index", Manifest(kind="index")
        )


def name_of(row: int) -> str:
    """What the company calls an item."""
    return f"sku-{row:08d}"


def make_bodies() -> list[dict[str, Any]]:
    """Bodies of POST /recommend: 20 events, ten items wanted of the whole catalogue."""
    generator = make_generator(1)
    return [_body(user, generator) for user in range(NUM_BODIES)]


def _body(user: int, generator: torch.Generator) -> dict[str, Any]:
    names = {"user_id": f"user {user}", "session_id": f"session {user}"}
    return names | session_state(NUM_ITEMS, name_of, generator) | {"num": NUM_WANTED}


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_artifacts(Path(sys.argv[1]))
