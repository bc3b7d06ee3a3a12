"""The same training with and without the ranker it starts from, by two algorithms.

What a run gave is kept in `runs.jsonl`, and a run that stands there is not made again; a stop costs
one run. Logs, ranker, index and simulator of a seed are the same in every arm: they are made once
in `runs/bootstrap/shared/seed_<n>`. Seeds, arms and metric are fixed here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.demo_runs import call, options_of, prepare, run_of, share
from experiments.records import Records, over_all, pooled, side_by_side
from experiments.result import figure, write_result
from recomind.artifacts import write_json
from recomind.evaluation.rollout import rollout
from recomind.pipeline.curve import CURVE, SECONDS
from recomind.pipeline.loading import load_pool, ranker_policy
from recomind.streams import draw_seeds

SEEDS = (0, 1, 2, 3, 4)
ROOT = Path("runs/bootstrap")
RECORDS = Records(Path(__file__).parent, ("arm", "seed"))
COMMON = ("experiment=demo", "world=fatigue", "rounds=1", "curve_sessions=2000")
_IN_LOGS = ("policy.bootstrap=false", "policy.support_ratio=0")
_SCRATCH = (*_IN_LOGS, "policy.support_density=0")
_ACTOR_CRITIC = ("training.algorithm=actor_critic",)
# What each arm changes in `experiment=demo`; the first is what users get. From scratch there is no
# ranker to keep to: no support constraint, and no KL term. The logs are there for everybody, so one
# arm from scratch keeps to their density, as the default recipe does.
ARMS: dict[str, tuple[str, ...]] = {
    "bootstrap": (),
    "scratch": _SCRATCH,
    "scratch_in_logs": _IN_LOGS,
    "actor_critic": _ACTOR_CRITIC,
    "actor_critic_scratch": (
        *_ACTOR_CRITIC,
        *_SCRATCH,
        "training.actor_critic.kl_coefficient=0",
    ),
}
STAGES = ("collect-logs", "train-ranker", "build-index", "fit-simulator")
SHARED = ("sessions", "ranker", "index", "simulator", "holdout_simulator")
RANKER = "ranker.json"  # what the ranker is worth in the world
DIP = 0.02  # no checkpoint of the default recipe may fall further below the ranker


def folder_of(arm: str, seed: int) -> Path:
    """Where a run is kept."""
    return ROOT / arm / f"seed_{seed}"


def train(arm: str, seed: int, common: tuple[str, ...]) -> None:
    """One arm's policy."""
    folder = folder_of(arm, seed)
    share(SHARED, folder_of("shared", seed) / "round_0", folder / "round_0")
    settings = [*common, f"seed={seed}", f"hydra.run.dir={folder}", *ARMS[arm]]
    call("recomind.cli", ["train-policy", *settings], folder)
    print(f"{arm}, seed {seed}: done", flush=True)


def judge_ranker(seed: int, common: tuple[str, ...]) -> None:
    """Keep the greedy ranker's mean reward in the world, on the sessions of the learning curves."""
    folder = folder_of("shared", seed)
    if (folder / RANKER).is_file():
        return
    run = run_of(folder, [*common, f"seed={seed}"])
    seeds = draw_seeds(run.config.curve_sessions, run.generator("curve"))
    policy, pool = ranker_policy(run.round(0)), load_pool(run.round(0))
    outcomes = rollout(run.require_world("bootstrap"), policy, pool, seeds)
    write_json(folder / RANKER, {"world_return": float(outcomes.reward.mean())})


def curve(arm: str, seed: int) -> list[dict[str, Any]]:
    """Points of a run: steps, seconds of training, return in simulator and world."""
    folder = folder_of(arm, seed)
    points = json.loads((folder / "round_0" / "policy" / CURVE).read_text())
    seconds = dict(json.loads((folder / "tensorboard" / SECONDS.format("round_0")).read_text()))
    return [point | {"seconds": seconds[point["env_steps"]]} for point in points]


def run_one(arm: str, seed: int) -> dict[str, Any]:
    """A run, and what it gave."""
    train(arm, seed, COMMON)
    return figures_of(arm, seed)


def figures_of(arm: str, seed: int) -> dict[str, Any]:
    """Every checkpoint in the world over the ranker on the same sessions, less 1; as recorded."""
    shared = folder_of("shared", seed) / RANKER
    ranker = json.loads(shared.read_text())["world_return"]
    points = [
        {
            "env_steps": point["env_steps"],
            "seconds": point["seconds"],
            "lift": point["world_return"] / ranker - 1.0,
        }
        for point in curve(arm, seed)
    ]
    lifts = [point["lift"] for point in points]
    return {
        "step0_gap": lifts[0],
        "worst_dip": min(lifts),
        "final_lift": lifts[-1],
        "seconds": points[-1]["seconds"],
        "points": points,
    }


def arm_figures(arm: str, runs: dict[int, dict[str, Any]]) -> dict[str, dict]:
    """What an arm ends with, its worst checkpoint, and its curve."""
    figures = {f"final_lift.{arm}": pooled(runs, "final_lift", arm, SEEDS)}
    figures[f"worst_dip.{arm}"] = over_all(runs, "worst_dip", arm, min)
    figures[f"seconds.{arm}"] = pooled(runs, "seconds", arm, SEEDS, unit="s")
    curves = [figures["points"] for figures in runs.values() if "points" in figures]
    if curves:
        points = [
            {name: sum(point[name] for point in at) / len(at) for name in at[0]}
            for at in zip(*curves, strict=False)
        ]
        figures[f"curve.{arm}"] = figure(points[-1]["lift"], n=len(curves), points=points)
    return figures


def aggregate() -> dict[str, dict]:
    """Every arm, the losing ones too."""
    figures: dict[str, dict] = {}
    runs = {arm: RECORDS.of_seeds(SEEDS, arm) for arm in ARMS}
    for arm in ARMS:
        figures |= arm_figures(arm, runs[arm])
    for arm, name in (("bootstrap", "step0_gap"), ("actor_critic", "step0_gap.actor_critic")):
        figures[name] = over_all(runs[arm], "step0_gap", arm, lambda gaps: max(gaps, key=abs))
    dip = figures["worst_dip.bootstrap"]
    held = {"held": dip["value"] >= -DIP} if dip["value"] is not None else {}
    return figures | {"worst_dip": dip | held}


def table(figures: dict[str, dict]) -> str:
    """Final lifts and worst checkpoints, for the terminal."""
    lines = [f"{'':24s}{'final':>10s}{'worst':>10s}{'seconds':>10s}"]
    for arm in ARMS:
        of_arm = [figures[f"{name}.{arm}"] for name in ("final_lift", "worst_dip", "seconds")]
        cells = [
            f"{f['value']:>+10.3f}" if f["value"] is not None else f"{'-':>10s}" for f in of_arm
        ]
        lines.append(f"{arm:24s}{''.join(cells)}")
    gap = figures["step0_gap"]["value"]
    if gap is not None:
        lines.append(f"step 0 against the ranker: {gap:+.1e}")
    return "\n".join(lines)


def prepare_all(seeds: Sequence[int], common: tuple[str, ...], jobs: int) -> None:
    """What the runs of a seed begin with."""
    side_by_side(lambda s: prepare(folder_of("shared", s), s, STAGES, common), seeds, jobs)
    for seed in seeds:  # in this process, one by one: Hydra's state is the process's
        judge_ranker(seed, common)


def main() -> None:
    """Run what is absent, then pool."""
    global ROOT
    parser = options_of(__doc__, SEEDS)
    parser.add_argument("--smoke", action="store_true", help="one tiny seed, no result.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.smoke:
        ROOT = Path("runs/bootstrap_smoke")
        smoke = ("experiment=tiny", "world=fatigue")
        prepare_all([0], smoke, arguments.jobs)
        for arm in ARMS:
            train(arm, 0, smoke)
        return
    runs = [(arm, seed) for seed in arguments.seeds for arm in ARMS]
    todo = RECORDS.absent(runs)
    if arguments.jobs:
        prepare_all(sorted({seed for _, seed in todo}), COMMON, arguments.jobs)
        RECORDS.make(todo, lambda run: run_one(*run), arguments.jobs)
    figures = aggregate()
    write_result(Path(__file__).parent, "experiments/bootstrap/run", figures, seeds=list(SEEDS))
    print(table(figures))


if __name__ == "__main__":
    main()
