"""Times of several ways to do a thing, taken in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from experiments.result import figure


def alternate(
    ways: Mapping[str, Callable[[], Any]], *, num_runs: int, num_warm_up: int = 2
) -> dict[str, list[float]]:
    """Seconds of processor time of `num_runs` calls of each way, one call of each in turn.

    Processor time, not the clock: on shared cores a neighbour's work would be in the latter.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(-num_warm_up, num_runs):
        for name, way in ways.items():
            begin = time.process_time()
            way()
            if run >= 0:
                seconds[name].append(time.process_time() - begin)
    return seconds


def ratio(above: list[float], below: list[float], scale: float = 1.0) -> dict[str, Any]:
    """Median over the turns of `scale * above / below`, between its quartiles."""
    return _figure([scale * a / b for a, b in zip(above, below, strict=True)], "ratio")


def milliseconds(seconds: list[float], num: int) -> dict[str, Any]:
    """Median milliseconds for one of `num`, between the quartiles."""
    return _figure([1e3 * value / num for value in seconds], "ms")


def _figure(values: list[float], unit: str) -> dict[str, Any]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return figure(middle, unit=unit, low=low, high=high, n=len(values))
