"""Runs of `recomind run experiment=demo`, kept one by one, and what their reports say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from recomind.artifacts import is_complete
from recomind.cli.context import Run
from recomind.config import conf_dir, register, resolve
from recomind.evaluation.report import read_report
from recomind.evaluation.statistics import Lift


def is_run(folder: Path) -> bool:
    """Whether the run of `folder` has ended with a report."""
    return (folder / "report" / "report.json").is_file()


def run_demo(folder: Path, preset: str, seed: int, changes: Sequence[str] = ()) -> None:
    """One run in a process of its own; exit 3 means a complete report without a release."""
    settings = [f"world={preset}", f"seed={seed}", f"hydra.run.dir={folder}", *changes]
    call("recomind.cli", ["run", "experiment=demo", *settings], folder, allowed=(0, 3))
    print(f"{folder}: done", flush=True)


def call(
    module: str, arguments: Sequence[str], folder: Path, allowed: Sequence[int] = (0,)
) -> None:
    """A module in a process of its own; what it says goes into a log beside `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        command = [sys.executable, "-m", module, *arguments]
        status = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    if status not in allowed:
        raise SystemExit(f"{module} for {folder} ended with status {status}: see {log.name}")


def share(names: Sequence[str], source: Path, target: Path) -> None:
    """Copy artifacts that are not there yet; a stage that finds its own current does not run.

    Half a copy never bears its final name.
    """
    for name in names:
        if is_complete(source / name) and not (target / name).exists():
            shutil.copytree(source / name, target / f".{name}", dirs_exist_ok=True)
            (target / f".{name}").rename(target / name)


def run_of(folder: Path, changes: Sequence[str]) -> Run:
    """What `recomind train-policy` sees in `folder` with the changes, in this process."""
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return Run(resolve(compose("train-policy", [*changes, f"output={folder}"])))


def options_of(description: str | None, seeds: Sequence[int]) -> ArgumentParser:
    """What an experiment of many runs may be told."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time; 0: pool only")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=list(seeds), choices=seeds, metavar="SEED",
        help="run these alone; what has run before is pooled with them",
    )  # fmt: skip
    return parser


def environment_of(folder: Path, kind: str) -> dict[str, Any]:
    """What the run's report says of an environment."""
    report = read_report(folder / "report")
    return next(e for e in report["environments"] if e["kind"] == kind)


def lift_of(folder: Path, kind: str, metric: str) -> Lift:
    """The paired lift of policy over ranker in an environment."""
    lift = environment_of(folder, kind)["lift"][metric]
    return Lift(**{k: v for k, v in lift.items() if k in Lift.__slots__})
