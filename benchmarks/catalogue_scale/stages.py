"""The stages of one size, each a process of its own, so that each has its own peak of memory.

    python -m benchmarks.catalogue_scale.stages STAGE SIZE FOLDER THREADS

writes FOLDER/STAGE.json; a build that was killed goes on where it was. STAGE is `time_0`, `time_1`,
... for the turns in which the sizes are timed.

Symbols: `B` sessions, `N` items, `K` candidates, `D` length of a vector.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.catalogue_scale.decisions import measure_decisions, measure_learning
from benchmarks.catalogue_scale.full_catalogue import measure_full
from benchmarks.catalogue_scale.items import DIM, ItemSpace
from benchmarks.catalogue_scale.setting import BATCH_SIZE, make_states
from recomind.artifacts import load_tensors, save_tensors, write_json
from recomind.retrieval import IndexKind, RetrievalConfig, build_index_file
from recomind.retrieval.index import load_index
from recomind.retrieval.recall import choose_nprobe, exact_search
from recomind.streams import hash_int64

INDEX, TRUTH, CLOCK = "index.faiss", "truth.safetensors", "clock.json"
SEED_RECALL, RECALL_AT = 50_000, 100


class Clock:
    """Time and memory of a stage over all its runs, the killed ones up to their last mark."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.so_far = json.loads(path.read_text()) if path.exists() else {}
        self._process, self._wall = time.process_time(), time.monotonic()

    def tell(self, done: int, total: int) -> None:
        """Mark, and print how many items are done."""
        print(f"{done:,} of {total:,} items, {self.mark()}", flush=True)

    def mark(self) -> dict[str, Any]:
        """Add what has passed since the last mark and keep it."""
        process, wall = time.process_time(), time.monotonic()
        old = self.so_far
        self.so_far = {
            "process_s": old.get("process_s", 0.0) + process - self._process,
            "wall_s": old.get("wall_s", 0.0) + wall - self._wall,
            "rss_gib": max(old.get("rss_gib", 0.0), peak_gib()),
        }
        self._process, self._wall = process, wall
        write_json(self._path, self.so_far)
        return self.so_far


def peak_gib() -> float:
    """Largest resident memory of this process, mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def config(threads: int) -> RetrievalConfig:
    """IVF at every size, the fewest lists read that reach the recall."""
    return RetrievalConfig(
        dim=DIM, kind=IndexKind.ivf, nprobe=1, min_recall=0.9, build_threads=threads
    )


def build(num_items: int, folder: Path, threads: int) -> dict[str, Any]:
    """The index, in parts."""
    clock, items = Clock(folder / CLOCK), ItemSpace()
    build_index_file(
        items.vectors,
        num_items,
        config(threads),
        folder / INDEX,
        source=str(int(hash_int64((items.vectors(torch.arange(9)) * 1e6).long()).sum())),
        on_items=clock.tell,
    )
    found = clock.mark() | {"threads": threads, "index_bytes": (folder / INDEX).stat().st_size}
    return found | {"bytes_per_item": found["index_bytes"] / num_items}


def truth(num_items: int, folder: Path, threads: int) -> dict[str, Any]:
    """The exact nearest items of some queries, for the recall."""
    items = ItemSpace()
    true_BK = exact_search(_queries(num_items), items.vectors, num_items, RECALL_AT)
    save_tensors(folder / TRUTH, {"item_id": true_BK})
    return {"rss_gib": peak_gib()}


def _queries(num_items: int) -> Tensor:
    return ItemSpace().queries(make_states(num_items, 1, SEED_RECALL)[0])


def recall(num_items: int, folder: Path, threads: int) -> dict[str, Any]:
    """The fewest lists that reach the recall."""
    index = load_index(folder / INDEX)
    index.nprobe = 1
    true_BK = load_tensors(folder / TRUTH)["item_id"]
    reached = choose_nprobe(index, _queries(num_items), true_BK, config(threads))
    return {"recall": reached, "nprobe": index.nprobe, "num_lists": index.num_lists}


def timed(num_items: int, folder: Path, threads: int) -> dict[str, Any]:
    """Decisions and learning steps."""
    nprobe = int(json.loads((folder / "recall.json").read_text())["nprobe"])
    found = measure_decisions(load_index(folder / INDEX, nprobe)) | measure_learning(num_items)
    return found | {"rss_gib": peak_gib(), "batch_size": BATCH_SIZE}


def full(num_items: int, folder: Path, threads: int) -> dict[str, Any]:
    """Acting and learning with the best of all N items."""
    return measure_full(num_items) | {"rss_gib": peak_gib()}


STAGES: dict[str, Callable[[int, Path, int], dict[str, Any]]] = {
    "build": build,
    "truth": truth,
    "recall": recall,
    "full": full,
    "time": timed,
}


def main(stage: str, size: str, folder: str, threads: str) -> None:
    """Run one stage of one size."""
    torch.set_num_threads(1)
    write_json(
        Path(folder) / f"{stage}.json",
        STAGES[stage.partition("_")[0]](int(float(size)), Path(folder), int(threads)),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
