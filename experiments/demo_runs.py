"""Runs of `recomind run experiment=demo`, kept one by one, and what their reports say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir

from recomind.artifacts import is_complete
from recomind.config import conf_dir, register, resolve
from recomind.evaluation.report import read_report
from recomind.pipeline import Run

METRICS = ("watch_10s_per_session", "session_depth", "session_depth_10plus")
METRIC = METRICS[0]


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


def prepare(folder: Path, seed: int, stages: Sequence[str], common: Sequence[str]) -> None:
    """What several runs of a seed begin with, made once; finished stages are skipped."""
    for stage in stages:
        call("recomind.cli", [stage, *common, f"seed={seed}", f"hydra.run.dir={folder}"], folder)


def run_of(folder: Path, changes: Sequence[str]) -> Run:
    """What `recomind train-policy` sees in `folder` with the changes, in this process."""
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return Run(resolve(compose("base", [*changes, f"output={folder}"])))


def options_of(description: str | None, seeds: Sequence[int]) -> ArgumentParser:
    """What an experiment of many runs may be told."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time; 0: pool only")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=list(seeds),
        choices=seeds,
        metavar="SEED",
        help="run these alone; what has run before is pooled with them",
    )
    return parser


def figures_of(folder: Path) -> dict[str, float | None]:
    """What a finished run's report says, by name, as its record keeps it.

    `lift.<metric>` is of policy over ranker in the world, with its interval over sessions;
    `lift_over_ensemble.<metric>` over the greedy ensemble, a ratio of means; `mean.<arm>` videos a
    session; `sim_lift...` and `sim_mean...` the same in the simulator that it was trained in;
    `<name>.after_round_<n>` of the sessions that choose the round; and of the last round's training
    simulator the rank agreement with the world, of all rounds' the distance in survival.
    """
    report = read_report(folder / "report")
    found: dict[str, float | None] = {"released": int(report["gate"]["released"])}
    environments = {entry["kind"]: entry for entry in report["environments"]}
    for kind, prefix in (("world", ""), ("simulator", "sim_")):
        arms, lifts = environments[kind]["arms"], environments[kind]["lift"]
        for metric in METRICS:
            found[f"{prefix}lift.{metric}"] = lifts[metric]["value"]
            found[f"{prefix}lift.{metric}.low"] = lifts[metric]["low"]
            found[f"{prefix}lift.{metric}.high"] = lifts[metric]["high"]
        found |= {f"{prefix}mean.{arm}": arms[arm][METRIC]["mean"] for arm in arms}
    arms = environments["world"]["arms"]
    for metric in METRICS:
        policy, ensemble = (arms[arm][metric]["mean"] for arm in ("policy", "ranker_ensemble"))
        found[f"lift_over_ensemble.{metric}"] = policy / ensemble - 1.0
    for index, judged in enumerate(report["rounds"]["judged"], 1):
        found[f"policy.after_round_{index}"] = judged["value"]
        found[f"lift.after_round_{index}"] = judged["refit_lift"]["value"]
        found[f"lift_over_first.after_round_{index}"] = judged["lift"]["value"]
    return found | _fidelity_of(folder)


def _fidelity_of(folder: Path) -> dict[str, float | None]:
    files = sorted(folder.glob("round_*/fidelity/fidelity.json"))
    rounds = [json.loads(file.read_text())["simulators"]["simulator"] for file in files]
    gaps = [simulator["leaving"]["max_difference"] for simulator in rounds]
    sections = (("kendall_tau", "rank_agreement_acting"), ("kendall_tau_chance", "rank_agreement"))
    taus = {name: rounds[-1].get(section, {}).get("kendall_tau") for name, section in sections}
    return taus | {"survival_gap": max(gaps)}
