"""How an experiment keeps its figures: `result.json` (docs/formats.md)."""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from recomind.artifacts import package_versions, write_json
from recomind.evaluation.statistics import Lift, pool_seeds


def figure(
    value: float | None,
    *,
    unit: str = "ratio",
    low: float | None = None,
    high: float | None = None,
    n: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One entry of `figures`."""
    entry = {"value": value, "low": low, "high": high, "n": n, "unit": unit} | more
    return {name: item for name, item in entry.items() if item is not None or name == "value"}


def over_seeds(values: Sequence[float | None], **more: Any) -> dict[str, Any]:
    """Mean over seeds with a Student interval, each seed's value beside it."""
    over = pool_seeds([Lift(value=v, low=None, high=None, n=1, method="a seed") for v in values])
    return figure(
        over.value, low=over.low, high=over.high, n=len(values), per_seed=list(values), **more
    )


def write_result(folder: Path, command: str, figures: dict[str, Any], *, seeds: list[int]) -> None:
    """Write `result.json` beside the experiment, with machine, versions and commit."""
    write_json(
        folder / "result.json",
        {
            "format_version": 1,
            "command": command,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "commit": commit(),
            "machine": _machine(),
            "versions": package_versions(),
            "seeds": seeds,
            "figures": figures,
        },
    )


def commit() -> str:
    """The commit that is checked out here."""
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cores": os.cpu_count(), "memory_gib": round(memory), "gpu": gpu}
