"""A decision over K candidates of one state: the ranker alone, and the policy on it.

Symbols: `K` candidates.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms import Way, aot_ways, eager_ways, onnx_ways
from setting import make_scorer, request
from torch import Tensor

from experiments.result import figure, write_result

HERE = Path(__file__).parent
SIZES = (100, 500, 2000)  # K
ROUNDS, CALLS, WARM_UP = 5, 100, 10
TOLERANCE = 1e-5  # of a score, between a form and eager torch
SEED = 0

Ways = dict[tuple[str, str], Way]  # (arm, format)


def made(name: str, make: Callable[[], dict[str, Way]], ways: Ways) -> str:
    """Add the ways of a format; returns why it cannot be had here, or nothing."""
    try:
        ways |= {(arm, name): way for arm, way in make().items()}
    except Exception as error:  # whatever a compiler that is absent raises
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return ""


def require_parity(ways: Ways, inputs: Sequence[Tensor]) -> None:
    """Stop where a form scores otherwise than eager torch."""
    scores = {key: np.asarray(way(inputs)[1]) for key, way in ways.items()}
    for (arm, form), found in scores.items():
        difference = float(np.abs(found - scores[arm, "eager"]).max())
        if not difference <= TOLERANCE:
            raise SystemExit(f"{arm} in {form} differs by {difference}, > {TOLERANCE}")


def milliseconds(ways: Ways, inputs: Sequence[Tensor]) -> dict[tuple[str, str], list[float]]:
    """Processor time of `CALLS` calls of each way, one call of each in turn."""
    spent: dict[tuple[str, str], list[float]] = {key: [] for key in ways}
    for call in range(-WARM_UP, CALLS):
        for key, way in ways.items():
            begin = time.process_time()
            way(inputs)
            if call >= 0:
                spent[key].append(1e3 * (time.process_time() - begin))
    return spent


def over_rounds(values: Sequence[float], unit: str) -> dict[str, Any]:
    """Median over the rounds, between the least and the largest."""
    return figure(
        statistics.median(values), unit=unit, low=min(values), high=max(values), n=len(values)
    )


def of_size(ways: Ways, inputs: Sequence[Tensor], size: int) -> dict[str, Any]:
    """Percentiles of each way, and ratios, at one K."""
    rounds = [milliseconds(ways, inputs) for _ in range(ROUNDS)]
    figures: dict[str, Any] = {}
    middle: dict[tuple[str, str], list[float]] = {}
    for arm, form in ways:
        spent = [np.array(each[arm, form]) for each in rounds]
        middle[arm, form] = [float(np.median(part)) for part in spent]
        tail = [float(np.quantile(part, 0.99)) for part in spent]
        figures[f"p50_ms.{arm}.{form}.{size}"] = over_rounds(middle[arm, form], "ms")
        figures[f"p99_ms.{arm}.{form}.{size}"] = over_rounds(tail, "ms")
    for form in dict.fromkeys(form for _, form in ways):
        policy, own = middle["policy", form], middle["ranker", form]
        eager = middle["ranker", "eager"]
        for name, below in (("ranker", own), ("eager_ranker", eager)):
            values = [a / b for a, b in zip(policy, below, strict=True)]
            figures[f"policy_over_{name}.{form}.{size}"] = over_rounds(values, "ratio")
    return figures


def main() -> None:
    """Build the forms, check that they agree, measure, write."""
    torch.set_num_threads(1)
    scorer, ways, figures = make_scorer(SEED), Ways(), {}
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode(False), torch.no_grad():
        made("eager", lambda: eager_ways(scorer), ways)
        for name, make in (("onnx", onnx_ways), ("aot", aot_ways)):
            why = made(name, lambda make=make: make(scorer, Path(scratch)), ways)
            if why:
                print(f"{name}: {why}", file=sys.stderr)
                figures[f"policy_over_ranker.{name}"] = figure(None, reason=why)
        for size in SIZES:
            inputs = request(scorer, size, SEED)
            require_parity(ways, inputs)
            figures |= of_size(ways, inputs, size)
    for form in dict.fromkeys(form for _, form in ways):
        worst = max((figures[f"policy_over_ranker.{form}.{k}"] for k in SIZES), key=_value)
        figures[f"policy_over_ranker.{form}"] = worst
    for name, entry in figures.items():
        print(f"{name:40s} {entry['value']} {entry['unit']}", flush=True)
    write_result(HERE, "benchmarks/serving/run", figures, seeds=[SEED])


def _value(entry: dict[str, Any]) -> float:
    return entry["value"]


if __name__ == "__main__":
    main()
