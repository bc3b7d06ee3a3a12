"""Sampling, learning and training one to one: ours, plain torch, and RLlib's own DQN."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
import torch

from benchmarks.training.arms import Arm, AsksAgain, Ours, Plain, Stock
from benchmarks.training.histories import cache_figures
from benchmarks.training.setting import (
    CHEAP,
    REAL,
    SEED,
    TRANSFORMER,
    network,
    num_parameters,
)
from experiments.result import figure, write_result
from recomind.training.cluster import quiet_rllib
from recomind.training.problem import SessionProblem

HERE = Path(__file__).resolve().parent
PROBLEMS = {"": REAL, "cheap_": CHEAP, "transformer_": TRANSFORMER}
NUM_RUNS, TASKS = 5, ("sample", "learn", "train")
ARMS: dict[str, Callable[[SessionProblem], Arm]] = {
    "ours": Ours,
    "plain": Plain,
    "asks_again": AsksAgain,
    "stock_vec64": lambda problem: Stock(problem, 64),
    "stock_single": lambda problem: Stock(problem, 1),
}
SECONDS = 0.5  # of processor time, at least, for one figure of one turn
Rates = dict[str, dict[str, list[float]]]  # task -> arm -> per second, one a turn


def make_arms(problem: SessionProblem) -> dict[str, Arm]:
    """All of them, their replays filled and their code warm."""
    arms = {name: make(problem) for name, make in ARMS.items()}
    for arm in arms.values():
        for task in ("train", "learn", "sample"):
            getattr(arm, task)()
    return arms


def measure(arms: dict[str, Arm]) -> Iterator[Rates]:
    """Rates of every arm, one turn of each after the other; all so far after every turn."""
    rates: Rates = {task: {name: [] for name in arms} for task in TASKS}
    for turn in range(NUM_RUNS):
        for task in TASKS:
            # The order alternates: whoever comes first finds other caches.
            for name in list(arms)[:: 1 if turn % 2 else -1]:
                found = rate(getattr(arms[name], task))
                rates[task][name].append(found)
                print(f"{turn} {task:6s} {name:12s} {found:8.0f}/s", flush=True)
        yield rates


def rate(work: Callable[[], int]) -> float:
    """Units a second of processor time, of all threads of this process."""
    done, begin = 0, time.process_time()
    while (seconds := time.process_time() - begin) < SECONDS:
        done += work()
    return done / seconds


def figures_of(rates: Rates, prefix: str = "") -> dict[str, Any]:
    """Rates of all arms, and ours over each of the others, turn by turn."""
    figures: dict[str, Any] = {}
    for task, by_arm in rates.items():
        for name, values in by_arm.items():
            figures[f"{prefix}{task}_per_s.{name}"] = spread(values, "1/s")
            ratios = [a / b for a, b in zip(by_arm["ours"], values, strict=True)]
            if name != "ours":
                figures[f"{prefix}{task}_vs_{name}"] = spread(ratios, "ratio")
    return figures


def spread(values: list[float], unit: str) -> dict[str, Any]:
    """Median between quartiles."""
    if len(values) < 2:
        return figure(None, unit=unit, reason="the run was stopped before two turns")
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return figure(middle, unit=unit, low=low, high=high, n=len(values))


def unmeasured(prefix: str) -> dict[str, Any]:
    """The figures of a network whose turn has not come."""
    return figures_of({task: {name: [] for name in ARMS} for task in TASKS}, prefix)


def main() -> None:
    """Measure, and write after every turn: a run that is stopped leaves what it had."""
    torch.set_num_threads(1)
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    figures = {"num_parameters": figure(num_parameters(network()), unit="1")} | cache_figures(SEED)
    for prefix in PROBLEMS:
        figures |= unmeasured(prefix)
    with quiet_rllib():
        for prefix, problem in PROBLEMS.items():
            for rates in measure(make_arms(problem)):
                figures |= figures_of(rates, prefix)
                write_result(HERE, "benchmarks/training/run", figures, seeds=[SEED])
    ray.shutdown()
    for name, entry in figures.items():
        print(f"{name:32s} {entry['value']:10.4g} {entry['unit']}", flush=True)


if __name__ == "__main__":
    main()
