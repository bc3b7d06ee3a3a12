"""The same training with and without the ranker it starts from, by two algorithms.

A run is kept in `runs/bootstrap/<arm>/seed_<n>` and skipped where its policy is whole, so a stop
costs one run. Logs, ranker, index and simulator of a seed are the same in every arm: they are made
once in `runs/bootstrap/shared/seed_<n>`, or copied from the runs of `experiments/presets`, which
begin alike. Seeds, arms and metric are fixed here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from experiments.result import figure, write_result
from recomind.artifacts import is_complete, write_json
from recomind.cli.context import Run
from recomind.cli.train_policy import CURVE, SECONDS
from recomind.config import conf_dir, register, resolve
from recomind.evaluation.rollout import rollout
from recomind.evaluation.statistics import Lift, pool_seeds
from recomind.policy import RankerPolicy
from recomind.ranker import load_rankers
from recomind.streams import draw_seeds

SEEDS = (0, 1, 2, 3, 4)
ROOT, PRESETS = Path("runs/bootstrap"), Path("runs/presets/fatigue")
COMMON = ("experiment=demo", "world=fatigue", "rounds=1", "curve_sessions=2000")
_SCRATCH = ("policy.bootstrap=false", "policy.support_ratio=0")
_ACTOR_CRITIC = ("training.algorithm=actor_critic",)
# What each arm changes in `experiment=demo`; the first is what users get. From scratch there is no
# ranker to keep to: no support constraint, and no leash.
ARMS: dict[str, tuple[str, ...]] = {
    "bootstrap": (),
    "scratch": _SCRATCH,
    "actor_critic": _ACTOR_CRITIC,
    "actor_critic_scratch": (
        *_ACTOR_CRITIC, *_SCRATCH, "training.actor_critic.leash_weight=0",
    ),
}  # fmt: skip
STAGES = ("collect-logs", "train-ranker", "build-index", "fit-simulator")
SHARED = ("sessions", "ranker", "index", "simulator", "holdout_simulator")
DIP = 0.02  # no checkpoint of the default recipe may fall further below the ranker


def folder_of(arm: str, seed: int) -> Path:
    """Where a run is kept."""
    return ROOT / arm / f"seed_{seed}"


def stage(name: str, folder: Path, seed: int, changes: tuple[str, ...], common: tuple) -> None:
    """One stage in a process of its own; a finished one is skipped by itself."""
    command = [
        sys.executable, "-m", "recomind.cli", name, *common, f"seed={seed}",
        f"hydra.run.dir={folder}", *changes,
    ]  # fmt: skip
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"seed_{seed}.log").open("a") as log:
        status = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    if status:
        raise SystemExit(f"{name} in {folder} ended with status {status}: see {log.name}")


def prepare(seed: int, common: tuple[str, ...]) -> None:
    """Logs, ranker, index and simulator of a seed, and what the ranker is worth."""
    folder = folder_of("shared", seed)
    if (folder / "ranker.json").is_file():
        return
    _copy(PRESETS / f"seed_{seed}" / "round_0", folder / "round_0")
    for name in STAGES:
        stage(name, folder, seed, (), common)
    write_json(folder / "ranker.json", ranker_return(folder, seed, common))
    print(f"shared, seed {seed}: done", flush=True)


def train(arm: str, seed: int, common: tuple[str, ...]) -> None:
    """One arm's policy."""
    folder = folder_of(arm, seed)
    if is_complete(_policy(arm, seed)):
        return
    _copy(folder_of("shared", seed) / "round_0", folder / "round_0")
    stage("train-policy", folder, seed, ARMS[arm], common)
    print(f"{arm}, seed {seed}: done", flush=True)


def _copy(source: Path, target: Path) -> None:
    """Copy what is shared and not there yet; half a copy never bears its final name."""
    for name in SHARED:
        if is_complete(source / name) and not (target / name).exists():
            shutil.copytree(source / name, target / f".{name}", dirs_exist_ok=True)
            (target / f".{name}").rename(target / name)


def ranker_return(folder: Path, seed: int, common: tuple[str, ...]) -> dict[str, float]:
    """The greedy ranker's mean reward in the world, on the sessions of the learning curves."""
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("train-policy", [*common, f"seed={seed}", f"output={folder}"])
    run = Run(resolve(composed))
    seeds = draw_seeds(run.config.curve_sessions, run.generator("curve", 0))
    policy = RankerPolicy([load_rankers(run.path("ranker", 0))[0]], run.weights)
    outcomes = rollout(run.require_world("bootstrap"), policy, run.pool_factory(0)(), seeds)
    return {"world_return": float(outcomes.reward.mean())}


def curve(arm: str, seed: int) -> list[dict[str, Any]]:
    """Points of a run: steps, seconds of training, return in simulator and world."""
    folder = folder_of(arm, seed)
    points = json.loads((folder / "round_0" / "policy" / CURVE).read_text())
    seconds = dict(json.loads((folder / "tensorboard" / SECONDS.format(0)).read_text()))
    return [point | {"seconds": seconds[point["env_steps"]]} for point in points]


def over_ranker(arm: str, seed: int) -> list[float]:
    """Return of every checkpoint in the world over the ranker's on the same sessions, less 1."""
    shared = folder_of("shared", seed) / "ranker.json"
    ranker = json.loads(shared.read_text())["world_return"]
    return [point["world_return"] / ranker - 1.0 for point in curve(arm, seed)]


def pooled(values: list[float], **more: Any) -> dict[str, Any]:
    """Mean over seeds with a Student interval."""
    over = pool_seeds([Lift(value=v, low=None, high=None, n=1, method="ratio") for v in values])
    return figure(over.value, low=over.low, high=over.high, n=len(values), per_seed=values, **more)


def arm_figures(arm: str, seeds: list[int]) -> dict[str, dict]:
    """What an arm ends with, its worst checkpoint, and its curve."""
    lifts = [over_ranker(arm, seed) for seed in seeds]
    curves = [curve(arm, seed) for seed in seeds]
    points = [
        {
            "env_steps": sum(point["env_steps"] for point in at) / len(at),
            "seconds": sum(point["seconds"] for point in at) / len(at),
            "lift": sum(lift) / len(lift),
        }
        for at, lift in zip(zip(*curves, strict=False), zip(*lifts, strict=False), strict=True)
    ]
    worst = [min(lift) for lift in lifts]
    return {
        f"final_lift.{arm}": pooled([lift[-1] for lift in lifts]),
        f"worst_dip.{arm}": figure(min(worst), n=len(worst), per_seed=worst),
        f"seconds.{arm}": pooled([points[-1]["seconds"] for points in curves], unit="s"),
        f"curve.{arm}": figure(points[-1]["lift"], n=len(seeds), points=points),
    }


def absent(seeds: list[int]) -> dict[str, dict]:
    """What stands in the place of every figure while some runs have not been made."""
    missing = sum(not is_complete(_policy(arm, seed)) for arm in ARMS for seed in seeds)
    reason = {"value": None, "reason": f"{missing} of {len(ARMS) * len(seeds)} runs are not made"}
    names = [f"{name}.{arm}" for name in ("final_lift", "worst_dip") for arm in ARMS]
    return dict.fromkeys([*names, "step0_gap", "worst_dip"], reason) if missing else {}


def _policy(arm: str, seed: int) -> Path:
    return folder_of(arm, seed) / "round_0" / "policy"


def aggregate(seeds: list[int]) -> dict[str, dict]:
    """Every arm, the losing ones too; nothing while runs are missing."""
    figures = absent(seeds)
    if figures:
        return figures
    for arm in ARMS:
        figures |= arm_figures(arm, seeds)
    for arm in ("bootstrap", "actor_critic"):
        gaps = [over_ranker(arm, seed)[0] for seed in seeds]
        name = "step0_gap" if arm == "bootstrap" else f"step0_gap.{arm}"
        figures[name] = figure(max(gaps, key=abs), n=len(gaps), per_seed=gaps)
    figures["worst_dip"] = figures["worst_dip.bootstrap"] | {
        "held": figures["worst_dip.bootstrap"]["value"] >= -DIP
    }
    return figures


def table(figures: dict[str, dict]) -> str:
    """Final lifts and worst checkpoints, for the terminal."""
    if figures["step0_gap"]["value"] is None:
        return figures["step0_gap"]["reason"]
    lines = [f"{'':24s}{'final':>10s}{'worst':>10s}{'seconds':>10s}"]
    for arm in ARMS:
        final, worst, seconds = (
            figures[f"{n}.{arm}"]["value"] for n in ("final_lift", "worst_dip", "seconds")
        )
        lines.append(f"{arm:24s}{final:>+10.3f}{worst:>+10.3f}{seconds:>10.0f}")
    return "\n".join([*lines, f"step 0 against the ranker: {figures['step0_gap']['value']:+.1e}"])


def main() -> None:
    """Run what is absent, then pool."""
    global ROOT, PRESETS
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time; 0: pool only")
    parser.add_argument("--smoke", action="store_true", help="one tiny seed, no result.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds: list[int] = list(SEEDS)
    common: tuple[str, ...] = COMMON
    if arguments.smoke:
        seeds, common = [0], ("experiment=tiny", "world=fatigue")
        ROOT, PRESETS = Path("runs/bootstrap_smoke"), Path("runs/none")
    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        if arguments.jobs:
            list(pool.map(lambda seed: prepare(seed, common), seeds))
            todo = [(arm, seed) for seed in seeds for arm in ARMS]
            list(pool.map(lambda run: train(run[0], run[1], common), todo))
    figures = aggregate(seeds)
    if not arguments.smoke:
        write_result(Path(__file__).parent, "experiments/bootstrap/run", figures, seeds=seeds)
    print(table(figures))


if __name__ == "__main__":
    main()
