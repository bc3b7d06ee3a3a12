"""Three presets x five seeds through `recomind run experiment=demo`, pooled into result.json.

A run is kept in `runs/presets/<preset>/seed_<n>` and skipped where its report is whole, so a stop
costs one run. Seeds, baseline (the ranker refit on the same logs) and metrics are fixed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from experiments.demo_runs import environment_of, is_run, lift_of, options_of, run_demo
from experiments.result import figure, over_seeds, write_result
from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.evaluation.metrics import session_ratios
from recomind.evaluation.report import read_report
from recomind.evaluation.rollout import rollout
from recomind.evaluation.statistics import Lift, paired_lift
from recomind.policy import RandomPolicy
from recomind.streams import draw_seeds, make_generator
from simulators.video_feed.policies import Oracle
from simulators.video_feed.world import VideoFeed

PRESETS = ("fatigue", "steady", "confounded")
SEEDS = (0, 1, 2, 3, 4)
ROUNDS = 3  # of logs
METRICS = ("watch_10s_per_session", "session_depth", "session_depth_10plus")
ROOT = Path("runs/presets")
# The look-ahead oracle's prices are the best of this grid, on sessions of their own.
PRICES = [(p, f) for p in (0.2, 0.4, 0.8, 1.2) for f in (0.0, 0.5, 1.0)]
NUM_ORACLE_SESSIONS = 2000


def folder_of(preset: str, seed: int) -> Path:
    """Where a run is kept."""
    return ROOT / preset / f"seed_{seed}"


def run_one(preset: str, seed: int) -> None:
    """The run, unless it is there."""
    if not is_run(folder_of(preset, seed)):
        run_demo(folder_of(preset, seed), preset, seed, [f"rounds={ROUNDS}"])


def world_entry(preset: str, seed: int) -> dict:
    """What a run's report says of the world."""
    return environment_of(folder_of(preset, seed), "world")


def world_lift(preset: str, seed: int, metric: str) -> Lift:
    """The paired lift of policy over ranker in the world."""
    return lift_of(folder_of(preset, seed), "world", metric)


def ensemble_lift(preset: str, seed: int, metric: str) -> Lift:
    """Lift of policy over the greedy ensemble; its interval only comes from the seeds."""
    arms = world_entry(preset, seed)["arms"]
    value = arms["policy"][metric]["mean"] / arms["ranker_ensemble"][metric]["mean"] - 1.0
    return Lift(value=value, low=None, high=None, n=1, method="ratio of means")


def world_means(preset: str, metric: str, arm: str, seeds: Sequence[int]) -> list[float]:
    """An arm's mean in the world, per seed."""
    return [world_entry(preset, seed)["arms"][arm][metric]["mean"] for seed in seeds]


def oracles(preset: str) -> dict[str, dict]:
    """Returns of the reference policies on the uniform pool, and the headroom between them."""
    world = VideoFeed(preset_name=preset)
    pool = CandidatePool(CandidatesConfig(num_nearest=0, num_fresh=0), world.catalogue.num_items)
    tune, test = (draw_seeds(NUM_ORACLE_SESSIONS, make_generator(s)) for s in (901, 902))

    def value(policy, seeds):
        return session_ratios(rollout(world, policy, pool, seeds))["watch_10s_per_session"]

    def mean(ratio):
        return float(ratio.numerator.sum() / ratio.denominator.sum())

    carried = world.parameters.carry_over
    best = max(
        PRICES if carried else [(0.0, 0.0)],
        key=lambda c: mean(value(Oracle(world, patience_price=c[0], fatigue_price=c[1]), tune)),
    )
    myopic = value(Oracle(world), test)
    ahead = value(Oracle(world, patience_price=best[0], fatigue_price=best[1]), test)
    lift = paired_lift(ahead, myopic)
    figures = {
        f"oracle_headroom.{preset}": figure(
            lift.value, low=lift.low, high=lift.high, n=NUM_ORACLE_SESSIONS, unit="ratio",
            note=f"look-ahead (prices {best}) over myopic oracle",
        )
    }  # fmt: skip
    for name, ratio in (("random", value(RandomPolicy(), test)), ("myopic_oracle", myopic),
                        ("look_ahead_oracle", ahead)):  # fmt: skip
        figures[f"{name}.{preset}.watch_10s_per_session"] = figure(
            mean(ratio), n=NUM_ORACLE_SESSIONS, unit="videos per session"
        )
    return figures


def of_preset(preset: str, seeds: Sequence[int]) -> dict[str, dict]:
    """Lifts, means and verdicts over the seeds that have run; two at least."""
    figures = {}
    for metric in METRICS:
        for name, of in (("lift", world_lift), ("lift_over_ensemble", ensemble_lift)):
            per_seed = [of(preset, seed, metric).value for seed in seeds]
            figures[f"{name}.{preset}.{metric}"] = over_seeds(per_seed)
    for arm in ("random", "ranker", "ranker_ensemble", "policy"):
        values = world_means(preset, METRICS[0], arm, seeds)
        figures[f"mean.{preset}.{arm}.{METRICS[0]}"] = figure(
            sum(values) / len(values), n=len(seeds), unit="videos per session", per_seed=values
        )
    reports = [read_report(folder_of(preset, seed) / "report") for seed in seeds]
    figures[f"released.{preset}"] = figure(
        sum(report["gate"]["released"] for report in reports), n=len(seeds), unit="runs"
    )
    return figures


def aggregate() -> dict[str, dict]:
    """Every figure of every run that there is, the losing ones too."""
    figures = {}
    for preset in PRESETS:
        seeds = [seed for seed in SEEDS if is_run(folder_of(preset, seed))]
        if len(seeds) >= 2:
            figures |= of_preset(preset, seeds)
        figures |= oracles(preset)
    return figures


def main() -> None:
    """Run what is absent, then pool."""
    options = options_of(__doc__, SEEDS).parse_args()
    torch.set_num_threads(1)
    if options.jobs:
        todo = [(preset, seed) for seed in options.seeds for preset in PRESETS]
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda pair: run_one(*pair), todo))
    write_result(Path(__file__).parent, "experiments/presets/run", aggregate(), seeds=list(SEEDS))


if __name__ == "__main__":
    main()
