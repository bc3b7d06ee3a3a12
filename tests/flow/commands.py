"""Runs `recomind` as a user does, in a process of its own, on the smallest run there is."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.preloaded import launching as preloaded
from tests.preloaded.launching import Started

TIMEOUT_S = 300  # generous: a test machine may be busy with other things
NOT_RELEASED = 3

# Every stage in some seconds. Nothing is learned in so few events; nothing here needs it to be.
MICRO = (
    "experiment=tiny",
    "curve_sessions=20",
    "collect.fresh_sessions=300",
    "data.holdout_share=0.3",
    "world.num_items=300",
    "world.horizon=4",
    "world.history_length=8",
    "ranker.history_length=8",
    "simulation.horizon=4",
    "simulation.num_epochs=1",
    "candidates.num_candidates=12",
    "candidates.num_nearest=6",
    "training.num_env_steps=800",
    "training.steps_per_iteration=400",
    "training.num_sessions=16",
    "training.learning_starts=128",
    "training.compare_sessions=0",
    "training.replay_capacity=1024",
    "training.batch_size=64",
    "training.subset_size=6",
    "training.target_subset_size=12",
    "evaluation.num_sessions=40",
    "evaluation.rounds_sessions=30",
    "evaluation.fidelity_sessions=30",
    "evaluation.num_parity_states=16",
)


def start(*arguments: str, cwd: Path) -> Started:
    """Start `recomind` in `cwd`, as the leader of a process group of its own."""
    program = ["-m", "recomind.cli", *arguments]
    environment = {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return preloaded.start(program, cwd=cwd, environment=environment)


def recomind(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `recomind` in `cwd` to its end."""
    return start(*arguments, cwd=cwd).ended(TIMEOUT_S)


def kill_when(command: Started, marker: Path) -> str:
    """`kill -9` as soon as `marker` is there; returns what the command wrote to stderr."""
    deadline = time.monotonic() + TIMEOUT_S
    while not marker.exists() and command.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    command.kill()
    done = command.ended(TIMEOUT_S)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert marker.exists(), done.stderr
    return done.stderr


def read_report(folder: Path) -> dict[str, Any]:
    """`report.json` of a run's folder."""
    return json.loads((folder / "report" / "report.json").read_text())
