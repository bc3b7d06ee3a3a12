"""Session-steps a second of the environment alone: random items, one thread.

Symbols: `B` sessions, `N` items.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.simulation.setting import make_simulator
from experiments.result import figure, write_result
from recomind.simulation import LearnedSimulator
from recomind.streams import make_generator

HERE = Path(__file__).resolve().parent
SEED, NUM_SESSIONS, NUM_STEPS, NUM_WARM_UP = 0, 1024, 100, 45
NUM_RUNS = 5
SIZES = {"1e3": 1_000, "1e5": 100_000, "1e7": 10_000_000}
RECOGYM = {"recogym_1e3": 1_000, "recogym_1e4": 10_000}
RECOGYM_SECONDS = 4.0
NUM_LONG = 1_000_000  # session-steps over which memory is watched


class Running:
    """A simulator whose sessions run on from one call to the next."""

    def __init__(self, simulator: LearnedSimulator) -> None:
        self.simulator, self.generator = simulator, make_generator(SEED + 1)
        simulator.reset(NUM_SESSIONS, make_generator(SEED), auto_reset=True)
        self.steps_per_s(NUM_WARM_UP)

    def steps_per_s(self, num_steps: int) -> float:
        """Valid session-steps a second of processor time: beginning a session is no step."""
        valid, begin = [], time.process_time()
        for _ in range(num_steps):
            size = self.simulator.catalogue.num_items
            item_id = torch.randint(size, (NUM_SESSIONS,), generator=self.generator)
            valid.append(self.simulator.step(item_id).valid)
        seconds = time.process_time() - begin
        return int(torch.stack(valid).sum()) / seconds


def recogym(num_products: int) -> float:
    """Steps a second of RecoGym."""
    command = [sys.executable, str(HERE / "recogym_steps.py"), str(num_products)]
    found = subprocess.run(
        [*command, str(RECOGYM_SECONDS)], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(found.stdout.splitlines()[-1])


def measure() -> dict[str, list[float]]:
    """Steps a second of every environment, one run of each in turn."""
    running = {name: Running(make_simulator(num, SEED)) for name, num in SIZES.items()}
    found: dict[str, list[float]] = {name: [] for name in (*SIZES, *RECOGYM)}
    for _ in range(NUM_RUNS):
        for name, one in running.items():
            found[name].append(one.steps_per_s(NUM_STEPS))
        for name, num_products in RECOGYM.items():
            found[name].append(recogym(num_products))
    return found


def growth() -> dict[str, Any]:
    """MiB that a million session-steps add to the process, once 200 steps have been taken."""
    running = Running(make_simulator(SIZES["1e3"], SEED))
    running.steps_per_s(200)
    before = _resident_mib()
    running.steps_per_s(NUM_LONG // NUM_SESSIONS)
    return figure(_resident_mib() - before, unit="MiB", n=NUM_LONG)


def _resident_mib() -> float:
    """Resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def figures_of(found: dict[str, list[float]]) -> dict[str, Any]:
    """Medians between quartiles, and the ratio of the largest to the smallest catalogue."""
    figures = {f"steps_per_s.{name}": _figure(values, "1/s") for name, values in found.items()}
    ratios = [a / b for a, b in zip(found["1e7"], found["1e3"], strict=True)]
    return figures | {"ratio_1e7_1e3": _figure(ratios, "ratio")}


def _figure(values: list[float], unit: str) -> dict[str, Any]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return figure(middle, unit=unit, low=low, high=high, n=len(values))


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    with torch.no_grad():
        figures = {"memory_growth_mib": growth()} | figures_of(measure())
    for name, entry in figures.items():
        print(f"{name:30s} {entry['value']:.4g} {entry['unit']}", flush=True)
    write_result(HERE, "benchmarks/simulation/run", figures, seeds=[SEED])


if __name__ == "__main__":
    main()
