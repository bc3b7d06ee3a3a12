"""Resident memory of one process that trains: prints how far it grows once its replay is full."""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path
from typing import Any

import torch

from recomind.training.trainer import train_policy
from tests.training.tiny import PROBLEM, settings

MIB = 2**20
WARM_UP = 0.1  # of the steps: the replay fills, the allocator finds its size


def resident_mib() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def growth(seen: list[tuple[int, float]], num_steps: int) -> float:
    """Largest memory after the warm-up over the memory at its end, minus one."""
    warm = [mib for steps, mib in seen if steps >= WARM_UP * num_steps]
    return max(warm) / warm[0] - 1.0


def main() -> None:
    """Train, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    seen: list[tuple[int, float]] = []

    def watch(report: dict[str, Any]) -> None:
        seen.append((int(report["env_steps"]), resident_mib()))

    train_policy(
        PROBLEM,
        settings(
            num_env_steps=given.steps,
            steps_per_iteration=max(1, given.steps // 100),
            num_sessions=256,
            replay_capacity=20_000,
            env_steps_per_update=512,
        ),
        seed=0,
        checkpoint_dir=given.folder / "checkpoints",
        tensorboard_dir=given.folder / "tensorboard",
        on_iteration=watch,
    )
    last = {"steps": seen[-1][0], "growth": growth(seen, given.steps), "last_mib": seen[-1][1]}
    print(json.dumps(last))


if __name__ == "__main__":
    main()
