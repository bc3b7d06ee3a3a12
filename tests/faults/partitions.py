"""A log read by two Ray nodes of which one is killed on the way, beside the same log in memory.

As a program, so that it has a Ray of its own: `python -m tests.faults.partitions FOLDER` prints one
line of JSON: whether rows, facts and item features are `equal`, and `killed`, the number of
partitions that were cut when the node died.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import polars as pl
import torch

from recomind.data import Logs, make_source
from recomind.data.sources.table import engine, prepare
from tests.data.feed import feed_log, feed_settings, write_feed

GRAIN, NUM_EVENTS, PATIENCE_S = 64, 4000, 120.0


def read(folder: Path, **changes: object) -> Logs:
    return make_source(feed_settings(folder, **changes)).read()


def num_cut(spill: Path) -> int:
    return len(list(spill.rglob("cut-*.parquet")))


def main() -> None:
    folder, temporary = Path(sys.argv[1]), tempfile.mkdtemp(prefix="ray")
    os.environ["RAY_TMPDIR"] = temporary  # short: it holds sockets
    import ray
    from ray.cluster_utils import Cluster

    engine.GRAIN = prepare.GRAIN = GRAIN
    write_feed(folder, log=lambda _: feed_log(NUM_EVENTS))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    killed = []

    def strike() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not num_cut(folder / "spill") and time.monotonic() < deadline:
            time.sleep(0.01)
        killed.append(num_cut(folder / "spill"))
        cluster.remove_node(nodes[0], allow_graceful=False)
        cluster._shutdown_at_exit = False  # else it sets a signal's handler, which no thread may

    thread = threading.Thread(target=strike)
    try:
        thread.start()
        parts = read(folder, engine="ray", partition_events=2 * GRAIN, spill=str(folder / "spill"))
        assert isinstance(parts.frame, pl.LazyFrame)
        frame = parts.frame.collect()
        thread.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(temporary, ignore_errors=True)
    whole = read(folder)
    assert isinstance(whole.frame, pl.DataFrame)
    equal = frame.equals(whole.frame) and parts.facts == whole.facts
    equal &= torch.equal(parts.catalogue.dense_DNF, whole.catalogue.dense_DNF)  # pyright: ignore
    print(json.dumps({"equal": equal, "killed": killed[0]}))


if __name__ == "__main__":
    main()
