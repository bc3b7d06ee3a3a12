"""What asking shards through Ray costs, beside the search itself.

Symbols: `F` shards.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import ray
import torch

from benchmarks.catalogue_scale.items import DIM, ItemSpace
from experiments.result import figure
from recomind.local_ray import start_ray
from recomind.retrieval import IndexKind, RetrievalConfig
from recomind.serving.shards import ShardedIndex, ShardsConfig, build_shards

NUM_ITEMS, NUM_NEAREST, NUM_CALLS, WARM_UP = 4_000, 100, 1_000, 50
FAN_OUTS = (2, 8)


def ray_figures(folder: Path) -> dict[str, Any]:
    """Time of a search of shards so small that asking them is all it costs."""
    start_ray(2)
    figures: dict[str, Any] = {}
    try:
        for fan_out in FAN_OUTS:
            figures |= _measured(folder / f"{fan_out}-shards", fan_out)
    finally:
        ray.shutdown()
    return figures


def _measured(folder: Path, fan_out: int) -> dict[str, Any]:
    config, items = RetrievalConfig(dim=DIM, kind=IndexKind.flat), ItemSpace()
    build_shards(items.vectors, NUM_ITEMS, fan_out, config, folder, source="catalogue_scale items")
    index = ShardedIndex(folder, ShardsConfig(num_cpus=2 / fan_out, timeout_s=60.0))
    query_nD = items.vectors(torch.arange(NUM_CALLS + WARM_UP))
    processor, wall = [], []
    for query_1D in query_nD.split(1):
        clock, begin = time.perf_counter(), time.process_time()
        answer = index.search_shards(query_1D, NUM_NEAREST)
        processor.append(1e3 * (time.process_time() - begin))
        wall.append(1e3 * (time.perf_counter() - clock))
        if answer.num_missing:
            raise SystemExit("a shard did not answer within a minute")
    index.close()
    return {
        f"ray.caller_processor_ms.f{fan_out}": _quartiles(processor[WARM_UP:]),
        f"ray.wall_ms.f{fan_out}": _quartiles(wall[WARM_UP:]),
    }


def _quartiles(values: list[float]) -> dict[str, Any]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return figure(middle, unit="ms", low=low, high=high, n=len(values))
