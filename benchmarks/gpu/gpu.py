"""Every arm on the GPU and on the processor, in turn; nulls with the reason without a GPU."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import arms
from benchmarks.gpu.arms import Arm, Sizes
from experiments.result import figure, write_result
from recomind.data import SessionDataset, SessionStream
from recomind.devices import CPU, find_device
from recomind.errors import ConfigError
from recomind.ranker import RankerConfig

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
ROUNDS, LOG_SESSIONS = 5, 40_000
UNITS = {
    "ranker_rows_per_s.cuda": "rows/s",
    "ranker_rows_per_s.cpu": "rows/s",
    "ranker_rows_per_s.plain": "rows/s",
    "train_vs_plain": "ratio",
    "policy_updates_per_s.cuda": "updates/s",
    "policy_updates_per_s.cpu": "updates/s",
    "steps_per_s": "steps/s",
    "decision_us.cuda": "us",
    "decision_us.cpu": "us",
    "bandwidth_share": "ratio",
    "matmul_share": "ratio",
}
NO_SIMULATOR = "the simulator runs on the processor: see benchmarks/simulation"
Rounds = dict[str, list[float]]


def arms_of(block: SessionDataset, sizes: Sizes, device: torch.device) -> dict[str, Arm]:
    """What takes turns: the arms on `device`, and on the processor."""
    both = {"cuda": device, "cpu": CPU}
    found: dict[str, Arm] = {"ranker_rows_per_s.plain": arms.plain_ranker(block, sizes, device)}
    for name, where in both.items():
        found |= {
            f"ranker_rows_per_s.{name}": arms.ranker(block, sizes, where),
            f"policy_updates_per_s.{name}": arms.policy_updates(block, sizes, where),
            f"decision_us.{name}": arms.decisions(block, sizes, where),
        }
    return found | {
        "lookup": arms.lookup_bytes(sizes, device),
        "copy": arms.copy_bytes(sizes, device),
        "flops": arms.best_flops(sizes, device),
    }


def measured(arms_in_turn: dict[str, Arm], rounds: int) -> Rounds:
    """Each arm once a round, after a first time that does not count."""
    found: Rounds = {name: [] for name in arms_in_turn}
    for number in range(rounds + 1):
        for name, arm in arms_in_turn.items():
            value = arm()
            if number:
                found[name].append(value)
    return found


def figures(found: Rounds, flops_of_row: float) -> dict[str, dict[str, Any]]:
    """Medians over the rounds, and ratios of what was measured in one round."""

    def ratio(one: Sequence[float], other: Sequence[float]) -> list[float]:
        return [a / b for a, b in zip(one, other, strict=True)]

    rows = found["ranker_rows_per_s.cuda"]
    values = found | {
        "train_vs_plain": ratio(rows, found["ranker_rows_per_s.plain"]),
        "bandwidth_share": ratio(found["lookup"], found["copy"]),
        "matmul_share": ratio([flops_of_row * rate for rate in rows], found["flops"]),
    }
    entries = {"steps_per_s": figure(None, unit="steps/s", reason=NO_SIMULATOR)}
    return entries | {
        name: figure(
            statistics.median(values[name]),
            unit=unit,
            low=min(values[name]),
            high=max(values[name]),
            n=len(values[name]),
        )
        for name, unit in UNITS.items()
        if name in values
    }


def nothing(reason: str) -> dict[str, dict[str, Any]]:
    """The same figures as null."""
    return {name: figure(None, unit=unit, reason=reason) for name, unit in UNITS.items()}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/gpu")
    given = parser.parse_args()
    try:
        device = find_device(given.device)
    except ConfigError as error:
        print(error, file=sys.stderr)
        entries = nothing(f"not measured: {error.what}; {error.got}")
    else:
        log, maker = given.work / "train", ROOT / "benchmarks/ranker_memory/make_log.py"
        subprocess.run([sys.executable, str(maker), str(log), str(LOG_SESSIONS), "0"], check=True)
        sizes = Sizes(ranker=RankerConfig())
        block = next(SessionStream.open([log], sizes.ranker.history_length, 10**9).blocks())
        entries = figures(
            measured(arms_of(block, sizes, device), ROUNDS), arms.flops_of_row(block, sizes)
        )
    for name, entry in entries.items():
        print(f"{name:32s} {entry['value']} {entry['unit']}", flush=True)
    write_result(HERE, "benchmarks/gpu/run", entries, seeds=[0])


if __name__ == "__main__":
    main()
