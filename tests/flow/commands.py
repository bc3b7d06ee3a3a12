"""Runs `recomind` as a user does, in a process of its own, on the smallest run there is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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
    "training.replay_capacity=1024",
    "training.batch_size=64",
    "training.subset_size=6",
    "training.target_subset_size=12",
    "evaluation.num_sessions=40",
    "evaluation.rounds_sessions=30",
    "evaluation.fidelity_sessions=30",
    "evaluation.num_parity_states=16",
)


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Start `recomind` in `cwd`, as the leader of a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "recomind.cli", *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def recomind(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `recomind` in `cwd` to its end."""
    process = start(*arguments, cwd=cwd)
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    except BaseException:
        kill(process)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def kill(process: subprocess.Popen[str]) -> str:
    """`kill -9` of the process and of all that it started; returns what it wrote to stderr."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate(timeout=TIMEOUT_S)[1]


def kill_when(process: subprocess.Popen[str], marker: Path) -> str:
    """`kill -9` as soon as `marker` is there; returns what the process wrote to stderr."""
    deadline = time.monotonic() + TIMEOUT_S
    while not marker.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    said = kill(process)
    assert process.returncode == -signal.SIGKILL, said
    assert marker.exists(), said
    return said


def read_report(folder: Path) -> dict[str, Any]:
    """`report.json` of a run's folder."""
    return json.loads((folder / "report" / "report.json").read_text())
