"""One shard of a million items: what it costs to build and to search, one query at a time.

Symbols: `n` searches.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch

from benchmarks.catalogue_scale.items import ItemSpace
from benchmarks.catalogue_scale.setting import make_states
from benchmarks.catalogue_scale.stages import SEED_RECALL, config
from experiments.result import figure
from recomind.artifacts import write_json
from recomind.retrieval import ItemIndex, build_index_file
from recomind.retrieval.index import load_index
from recomind.retrieval.recall import choose_nprobe, exact_search
from recomind.streams import make_generator

NUM_ITEMS, NUM_NEAREST, NUM_SEARCHES, WARM_UP = 1_000_000, 100, 20_000, 500
PAUSE_S = 1e-3  # a search that waited longer than this beside its processor time was paused
SEED_QUERIES = 60_000


@dataclass(kw_only=True)
class Timed:
    """Times of single searches, in ms."""

    processor_n: np.ndarray
    wall_n: np.ndarray


def build(folder: Path) -> dict[str, Any]:
    """Build the shard once; its processor time is kept for later runs."""
    path, kept = folder / "index.faiss", folder / "build.json"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        begin = time.process_time()
        build_index_file(
            ItemSpace().vectors, NUM_ITEMS, config(threads=1), path, source="catalogue_scale items"
        )
        write_json(kept, {"build_s": time.process_time() - begin})
    seconds = json.loads(kept.read_text())["build_s"]
    return {
        "build_s.1e6": figure(seconds, unit="s"),
        "bytes_per_item.1e6": figure(path.stat().st_size / NUM_ITEMS, unit="B"),
    }


def open_shard(folder: Path) -> tuple[ItemIndex, dict[str, Any]]:
    """The shard with the fewest lists read that reach recall 0.9."""
    index, items = load_index(folder / "index.faiss"), ItemSpace()
    query_BD = items.queries(make_states(NUM_ITEMS, 1, SEED_RECALL)[0])
    true_BK = exact_search(query_BD, items.vectors, NUM_ITEMS, NUM_NEAREST)
    index.nprobe = 1
    found = choose_nprobe(index, query_BD, true_BK, config(threads=1))
    recalled = figure(found, nprobe=index.nprobe, num_lists=index.num_lists)
    return index, {"recall_at_100.1e6": recalled}


def time_searches(index: ItemIndex) -> Timed:
    """Time `NUM_SEARCHES` searches of one query each, every query another one."""
    item_id = torch.randint(NUM_ITEMS, (NUM_SEARCHES,), generator=make_generator(SEED_QUERIES))
    query_nD = ItemSpace().vectors(item_id)
    processor, wall = [], []
    for query_1D in [*query_nD[:WARM_UP].split(1), *query_nD.split(1)]:
        clock, begin = time.perf_counter(), time.thread_time()
        index.search(query_1D, NUM_NEAREST)
        processor.append(time.thread_time() - begin)
        wall.append(time.perf_counter() - clock)
    return Timed(
        processor_n=1e3 * np.array(processor[WARM_UP:]), wall_n=1e3 * np.array(wall[WARM_UP:])
    )


def time_figures(timed: Timed) -> dict[str, Any]:
    """Percentiles of both clocks, and the model's parameters."""
    num = len(timed.processor_n)
    figures = {
        f"{clock}.p{name}_ms": figure(float(np.quantile(times_n, share)), unit="ms", n=num)
        for clock, times_n in (("processor", timed.processor_n), ("wall", timed.wall_n))
        for name, share in (("50", 0.5), ("95", 0.95), ("99", 0.99), ("99_9", 0.999))
    }
    tail = figures["processor.p99_ms"]["value"] / figures["processor.p50_ms"]["value"]
    waited_n = timed.wall_n - timed.processor_n
    pauses = waited_n[waited_n > 1e3 * PAUSE_S]
    # From the tail, which is what a fan-out meets: the logarithm's own spread misses it.
    figures["service_sigma"] = figure(math.log(tail) / NormalDist().inv_cdf(0.99), unit="log")
    figures["log_spread"] = figure(float(np.log(timed.processor_n).std()), unit="log", n=num)
    figures["pause_share"] = figure(len(pauses) / num, n=num)
    figures["pause_mean_ms"] = (
        figure(float(pauses.mean()), unit="ms", n=len(pauses))
        if len(pauses)
        else {"value": None, "reason": "no search was paused", "unit": "ms"}
    )
    return figures


def process_figures() -> dict[str, Any]:
    """Resident memory of a process that holds a shard of no size: interpreter and libraries."""
    code = "import recomind.serving.shards.actor as a; print(open('/proc/self/status').read())"
    command = [sys.executable, "-c", code]
    status = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return {"process_gib": figure(kib / 2**20, unit="GiB")}
