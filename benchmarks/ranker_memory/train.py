"""Trains one ranker for one pass over one log, in a process whose peak memory is its own.

Usage: train.py FOLDER. The last line is JSON: rows, seconds, processor seconds, and peak memory
(MiB) after the imports and of all of it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import torch

from recomind.data import SessionDataset, SessionStream
from recomind.ranker import RankerConfig, fit_ranker, new_ranker, training_rows

_STRIDE = 10


def peak_mib() -> float:
    """Most memory that this process ever held, files that it mapped included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_in_ten(block: SessionDataset) -> torch.Tensor:
    """Every tenth training row: all blocks are read, and the run stays short."""
    return training_rows(block)[::_STRIDE]


def train(folder: Path) -> dict[str, float]:
    """One pass over the blocks of `folder` with the default settings."""
    imported = peak_mib()
    config = RankerConfig()
    source = SessionStream.open([folder], config.history_length, config.max_block_events)
    ranker = new_ranker(source, config, 0)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    fit_ranker(ranker, source, num_epochs=1, seed=0, rows=one_in_ten)
    seconds = time.perf_counter() - begin
    return {
        "rows": source.num_rows("train", holdout=False) // _STRIDE,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - begin_cpu,
        "imported_mib": imported,
        "peak_mib": peak_mib(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(train(Path(sys.argv[1]))))
