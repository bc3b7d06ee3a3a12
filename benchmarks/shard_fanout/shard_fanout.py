"""One shard measured, 1 to 256 of them simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks.shard_fanout.one_shard import (
    build,
    open_shard,
    process_figures,
    time_figures,
    time_searches,
)
from benchmarks.shard_fanout.ray_calls import ray_figures
from benchmarks.shard_fanout.stragglers import Service, check_closed_form, figures_of
from experiments.result import figure, write_result

HERE, RUNS = Path(__file__).parent, Path("runs/shard_fanout")
SEEDS = [0, 1, 2, 3, 4]
RARE_SHARE, RARE_MEAN_MS = 1e-3, 10.0  # assumed, not measured


def services(measured: dict[str, Any]) -> dict[str, Service]:
    """The three machines that are simulated."""
    median = measured["processor.p50_ms"]["value"]
    sigma = measured["service_sigma"]["value"]
    share, mean = (measured[name]["value"] for name in ("pause_share", "pause_mean_ms"))
    return {
        "quiet": Service(median=median, sigma=sigma),
        "rare": Service(
            median=median, sigma=sigma, pause_share=RARE_SHARE, pause_mean=RARE_MEAN_MS
        ),
        "busy": Service(median=median, sigma=sigma, pause_share=share, pause_mean=mean or 0.0),
    }


def main() -> None:
    """Measure, simulate, check against the closed form, write."""
    torch.set_num_threads(1)
    shard = RUNS / "1e6"
    figures = build(shard)
    index, recalled = open_shard(shard)
    figures |= recalled | time_figures(time_searches(index)) | process_figures()
    for name, entry in figures.items():
        print(f"{name:32s} {entry['value']:.4g} {entry['unit']}", flush=True)
    found = services(figures)
    error = check_closed_form(found["quiet"], SEEDS)
    figures["closed_form_error"] = figure(error)
    for name, service in found.items():
        figures |= figures_of(name, service, SEEDS)
        print(f"{name} is simulated", flush=True)
    figures |= ray_figures(RUNS)
    write_result(HERE, "benchmarks/shard_fanout/run", figures, seeds=SEEDS)


if __name__ == "__main__":
    main()
