"""Trains a ranker on one log with the default settings and judges it on another.

Usage: quality.py LOG TEST SEED. The last line is JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from benchmarks.ranker_training.arms import block_of
from recomind.data import SessionDataset
from recomind.ranker import RankerConfig, fit_ranker, new_ranker, predict, quality

_HELD = 10  # every tenth session chooses among weights and calibrates


def _held(block: SessionDataset) -> torch.Tensor:
    return block.session_index(torch.arange(len(block))) % _HELD == 0


def judged(log: Path, test: Path, seed: int) -> dict[str, float]:
    """AUC, log-loss and ECE of `watch_10s`."""
    block, other, config = block_of(log), block_of(test), RankerConfig()

    def rows(of: SessionDataset, held: bool) -> torch.Tensor:
        chosen = of.rows("train")
        return chosen[_held(of)[chosen] == held]

    ranker = fit_ranker(
        new_ranker(block, config, seed),
        block,
        num_epochs=config.num_epochs,
        seed=seed,
        rows=lambda of: rows(of, False),
        calibration_rows=lambda of: rows(of, True),
    )
    found = quality(*predict(ranker, other, other.rows("train", "calibration")), ranker.tasks)
    return {name: found[f"{name}.watch_10s"] for name in ("auc", "log_loss", "ece")}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(judged(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
