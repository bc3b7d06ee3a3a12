"""Runs of `recomind run experiment=demo`, kept one by one, and what their reports say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recomind.evaluation.report import read_report
from recomind.evaluation.statistics import Lift


def is_run(folder: Path) -> bool:
    """Whether the run of `folder` has ended with a report."""
    return (folder / "report" / "report.json").is_file()


def run_demo(folder: Path, preset: str, seed: int, changes: Sequence[str] = ()) -> None:
    """One run in a process of its own; exit 3 means a complete report without a release."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "recomind.cli", "run", "experiment=demo", f"world={preset}",
        f"seed={seed}", f"hydra.run.dir={folder}", *changes,
    ]  # fmt: skip
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        status = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    if status not in (0, 3):
        raise SystemExit(f"{folder} ended with status {status}: see {log.name}")
    print(f"{folder}: done", flush=True)


def environment_of(folder: Path, kind: str) -> dict[str, Any]:
    """What the run's report says of an environment."""
    report = read_report(folder / "report")
    return next(e for e in report["environments"] if e["kind"] == kind)


def lift_of(folder: Path, kind: str, metric: str) -> Lift:
    """The paired lift of policy over ranker in an environment."""
    lift = environment_of(folder, kind)["lift"][metric]
    return Lift(**{k: v for k, v in lift.items() if k in Lift.__slots__})
