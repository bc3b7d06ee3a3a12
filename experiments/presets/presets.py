"""Three presets x five seeds through `recomind run experiment=demo`, pooled into result.json.

What a run gave is kept in `runs.jsonl`, and a run that stands there is not made again; a stop costs
one run. Seeds, baseline (the ranker refit on the same logs) and metrics are fixed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.demo_runs import METRIC, METRICS, figures_of, options_of, run_demo
from experiments.records import Records, mean, pooled
from experiments.result import figure, write_result
from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.evaluation.metrics import session_ratios
from recomind.evaluation.rollout import rollout
from recomind.evaluation.statistics import paired_lift
from recomind.policy import RandomPolicy
from recomind.streams import draw_seeds, make_generator
from simulators.video_feed.oracles import Oracle
from simulators.video_feed.world import VideoFeed

PRESETS = ("fatigue", "steady", "confounded")
SEEDS = (0, 1, 2, 3, 4)
ROUNDS = 3  # of logs
ROOT = Path("runs/presets")
RECORDS = Records(Path(__file__).parent, ("preset", "seed"))
# The look-ahead oracle's prices are the best of this grid, on sessions of their own.
PRICES = [(p, f) for p in (0.2, 0.4, 0.8, 1.2) for f in (0.0, 0.5, 1.0)]
NUM_ORACLE_SESSIONS = 2000


def run_one(preset: str, seed: int) -> dict[str, Any]:
    """A run, and what it gave."""
    folder = ROOT / preset / f"seed_{seed}"
    run_demo(folder, preset, seed, [f"rounds={ROUNDS}"])
    return figures_of(folder)


def run_all(names: Sequence[str], seeds: Sequence[int], jobs: int) -> None:
    """What is absent, seed by seed."""
    todo = RECORDS.absent((preset, seed) for seed in seeds for preset in names)
    RECORDS.make(todo, lambda run: run_one(*run), jobs)


def oracles(preset: str) -> dict[str, dict]:
    """Returns of the reference policies on the uniform pool, and the headroom between them."""
    world = VideoFeed(preset_name=preset)
    pool = CandidatePool(CandidatesConfig(num_nearest=0, num_fresh=0), world.catalogue.num_items)
    tune, test = (draw_seeds(NUM_ORACLE_SESSIONS, make_generator(s)) for s in (901, 902))

    def value(policy, seeds):
        return session_ratios(rollout(world, policy, pool, seeds))[METRIC]

    def mean_of(ratio):
        return float(ratio.numerator.sum() / ratio.denominator.sum())

    carried = world.parameters.carry_over
    best = max(
        PRICES if carried else [(0.0, 0.0)],
        key=lambda c: mean_of(value(Oracle(world, patience_price=c[0], fatigue_price=c[1]), tune)),
    )
    myopic = value(Oracle(world), test)
    ahead = value(Oracle(world, patience_price=best[0], fatigue_price=best[1]), test)
    lift = paired_lift(ahead, myopic)
    figures = {
        f"oracle_headroom.{preset}": figure(
            lift.value,
            low=lift.low,
            high=lift.high,
            n=NUM_ORACLE_SESSIONS,
            unit="ratio",
            note=f"look-ahead (prices {best}) over myopic oracle",
        )
    }
    for name, ratio in (
        ("random", value(RandomPolicy(), test)),
        ("myopic_oracle", myopic),
        ("look_ahead_oracle", ahead),
    ):
        figures[f"{name}.{preset}.{METRIC}"] = figure(
            mean_of(ratio), n=NUM_ORACLE_SESSIONS, unit="videos per session"
        )
    return figures


def of_preset(preset: str) -> dict[str, dict]:
    """Lifts, means and verdicts over the seeds that have run."""
    runs, figures = RECORDS.of_seeds(SEEDS, preset), {}
    for metric in METRICS:
        for name in ("lift", "lift_over_ensemble"):
            lift = pooled(runs, f"{name}.{metric}", preset, SEEDS)
            figures[f"{name}.{preset}.{metric}"] = lift
    for arm in ("random", "ranker", "ranker_ensemble", "policy"):
        of_arm = mean(runs, f"mean.{arm}", preset, unit="videos per session")
        figures[f"mean.{preset}.{arm}.{METRIC}"] = of_arm
    released = sum(each["released"] for each in runs.values())
    return figures | {f"released.{preset}": figure(released, n=len(runs), unit="runs")}


def aggregate() -> dict[str, dict]:
    """Every figure of every run that there is, the losing ones too."""
    figures = {}
    for preset in PRESETS:
        figures |= of_preset(preset) | oracles(preset)
    return figures


def main() -> None:
    """Run what is absent, then pool."""
    options = options_of(__doc__, SEEDS).parse_args()
    torch.set_num_threads(1)
    if options.jobs:
        run_all(PRESETS, options.seeds, options.jobs)
    write_result(Path(__file__).parent, "experiments/presets/run", aggregate(), seeds=list(SEEDS))


if __name__ == "__main__":
    main()
