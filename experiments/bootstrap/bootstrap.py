"""The same training with and without the ranker it starts from, by two algorithms.

A run is kept in `runs/bootstrap/<arm>/seed_<n>` and skipped where its policy is whole, so a stop
costs one run. Logs, ranker, index and simulator of a seed are the same in every arm: they are made
once in `runs/bootstrap/shared/seed_<n>`, or copied from the runs of `experiments/presets`, which
begin alike. Seeds, arms and metric are fixed here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from experiments.demo_runs import call, options_of, run_of, share
from experiments.result import figure, over_seeds, write_result
from recomind.artifacts import is_complete, write_json
from recomind.cli.train_policy import CURVE, SECONDS
from recomind.evaluation.rollout import rollout
from recomind.policy import RankerPolicy
from recomind.ranker import load_rankers
from recomind.streams import draw_seeds

SEEDS = (0, 1, 2, 3, 4)
ROOT, PRESETS = Path("runs/bootstrap"), Path("runs/presets/fatigue")
COMMON = ("experiment=demo", "world=fatigue", "rounds=1", "curve_sessions=2000")
_IN_LOGS = ("policy.bootstrap=false", "policy.support_ratio=0")
_SCRATCH = (*_IN_LOGS, "policy.support_density=0")
_ACTOR_CRITIC = ("training.algorithm=actor_critic",)
# What each arm changes in `experiment=demo`; the first is what users get. From scratch there is no
# ranker to keep to: no support constraint, and no leash. The logs are there for everybody, so one
# arm from scratch keeps to their density, as the default recipe does.
ARMS: dict[str, tuple[str, ...]] = {
    "bootstrap": (),
    "scratch": _SCRATCH,
    "scratch_in_logs": _IN_LOGS,
    "actor_critic": _ACTOR_CRITIC,
    "actor_critic_scratch": (
        *_ACTOR_CRITIC, *_SCRATCH, "training.actor_critic.leash_weight=0",
    ),
}  # fmt: skip
STAGES = ("collect-logs", "train-ranker", "build-index", "fit-simulator")
SHARED = ("sessions", "ranker", "index", "simulator", "holdout_simulator")
RANKER = "ranker.json"  # what the ranker is worth in the world
DIP = 0.02  # no checkpoint of the default recipe may fall further below the ranker


def folder_of(arm: str, seed: int) -> Path:
    """Where a run is kept."""
    return ROOT / arm / f"seed_{seed}"


def stage(name: str, folder: Path, seed: int, changes: tuple[str, ...], common: tuple) -> None:
    """One stage; a finished one is skipped by itself."""
    settings = [*common, f"seed={seed}", f"hydra.run.dir={folder}", *changes]
    call("recomind.cli", [name, *settings], folder)


def prepare(seed: int, common: tuple[str, ...]) -> None:
    """Logs, ranker, index and simulator of a seed."""
    folder = folder_of("shared", seed)
    share(SHARED, PRESETS / f"seed_{seed}" / "round_0", folder / "round_0")
    for name in STAGES:
        stage(name, folder, seed, (), common)
    print(f"shared, seed {seed}: done", flush=True)


def train(arm: str, seed: int, common: tuple[str, ...]) -> None:
    """One arm's policy."""
    folder = folder_of(arm, seed)
    if is_complete(_policy(arm, seed)):
        return
    share(SHARED, folder_of("shared", seed) / "round_0", folder / "round_0")
    stage("train-policy", folder, seed, ARMS[arm], common)
    print(f"{arm}, seed {seed}: done", flush=True)


def judge_ranker(seed: int, common: tuple[str, ...]) -> None:
    """Keep the greedy ranker's mean reward in the world, on the sessions of the learning curves."""
    folder = folder_of("shared", seed)
    if (folder / RANKER).is_file():
        return
    run = run_of(folder, [*common, f"seed={seed}"])
    seeds = draw_seeds(run.config.curve_sessions, run.generator("curve", 0))
    policy = RankerPolicy([load_rankers(run.path("ranker", 0))[0]], run.weights)
    outcomes = rollout(run.require_world("bootstrap"), policy, run.pool_factory(0)(), seeds)
    write_json(folder / RANKER, {"world_return": float(outcomes.reward.mean())})


def curve(arm: str, seed: int) -> list[dict[str, Any]]:
    """Points of a run: steps, seconds of training, return in simulator and world."""
    folder = folder_of(arm, seed)
    points = json.loads((folder / "round_0" / "policy" / CURVE).read_text())
    seconds = dict(json.loads((folder / "tensorboard" / SECONDS.format(0)).read_text()))
    return [point | {"seconds": seconds[point["env_steps"]]} for point in points]


def over_ranker(arm: str, seed: int) -> list[float]:
    """Return of every checkpoint in the world over the ranker's on the same sessions, less 1."""
    shared = folder_of("shared", seed) / RANKER
    ranker = json.loads(shared.read_text())["world_return"]
    return [point["world_return"] / ranker - 1.0 for point in curve(arm, seed)]


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
        f"final_lift.{arm}": over_seeds([lift[-1] for lift in lifts]),
        f"worst_dip.{arm}": figure(min(worst), n=len(worst), per_seed=worst),
        f"seconds.{arm}": over_seeds([points[-1]["seconds"] for points in curves], unit="s"),
        f"curve.{arm}": figure(points[-1]["lift"], n=len(seeds), points=points),
    }


def whole_seeds(seeds: Sequence[int]) -> list[int]:
    """The seeds of which every arm has run."""
    return [seed for seed in seeds if all(is_complete(_policy(arm, seed)) for arm in ARMS)]


def absent(seeds: list[int]) -> dict[str, dict]:
    """What stands in the place of every figure until two seeds have run."""
    reason = {"value": None, "reason": f"{len(seeds)} of {len(SEEDS)} seeds have run"}
    names = [f"{name}.{arm}" for name in ("final_lift", "worst_dip") for arm in ARMS]
    return dict.fromkeys([*names, "step0_gap", "worst_dip"], reason)


def _policy(arm: str, seed: int) -> Path:
    return folder_of(arm, seed) / "round_0" / "policy"


def aggregate(seeds: list[int]) -> dict[str, dict]:
    """Every arm, the losing ones too."""
    if len(seeds) < 2:
        return absent(seeds)
    figures: dict[str, dict] = {}
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
    parser = options_of(__doc__, SEEDS)
    parser.add_argument("--smoke", action="store_true", help="one tiny seed, no result.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds: list[int] = arguments.seeds
    common: tuple[str, ...] = COMMON
    if arguments.smoke:
        seeds, common = [0], ("experiment=tiny", "world=fatigue")
        ROOT, PRESETS = Path("runs/bootstrap_smoke"), Path("runs/none")
    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        if arguments.jobs:
            list(pool.map(lambda seed: prepare(seed, common), seeds))
            for seed in seeds:  # in this process, one by one: Hydra's state is the process's
                judge_ranker(seed, common)
            todo = [(arm, seed) for seed in seeds for arm in ARMS]
            list(pool.map(lambda run: train(run[0], run[1], common), todo))
    if arguments.smoke:
        return
    figures = aggregate(whole_seeds(SEEDS))
    write_result(Path(__file__).parent, "experiments/bootstrap/run", figures, seeds=list(SEEDS))
    print(table(figures))


if __name__ == "__main__":
    main()
