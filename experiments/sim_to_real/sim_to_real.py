"""Presets x recipes x seeds through `recomind run experiment=demo`, pooled into result.json.

What a run gave is kept in `runs.jsonl` (the full recipe's with `experiments/presets`), and a run
that stands there is not made again; a stop costs one run. Logs, ranker and index of a preset and
seed are the same in every recipe: made once in `runs/sim_to_real/<preset>/shared/seed_<n>`. Seeds,
recipes, baseline and metric are fixed here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.demo_runs import METRIC, figures_of, options_of, prepare, run_demo, share
from experiments.presets import presets
from experiments.records import Records, mean, over_all, pooled, side_by_side
from experiments.result import write_result

PRESETS = ("fatigue", "confounded", "steady")
SEEDS = (0, 1, 2, 3, 4)
DEPTH = "session_depth_10plus"
ROOT = Path("runs/sim_to_real")
RECORDS = Records(Path(__file__).parent, ("preset", "recipe", "seed"))
ROUNDS = presets.ROUNDS  # of logs, where there is more than the first
_PLAIN = {
    "simulation.fatigue": "false",
    "simulation.pessimism": "none",
    "policy.support_ratio": "0",
    "simulation.calibrate_exploring": "false",
    "policy.support_density": "0",
    "rounds": "1",
}
# What each recipe changes in `experiment=demo`; the last is what users get.
RECIPES: dict[str, dict[str, str]] = {
    "plain": _PLAIN,
    "gate": _PLAIN | {"simulation.fatigue": "true"},
    "support": _PLAIN | {"policy.support_ratio": "0.6"},
    "density": _PLAIN | {"policy.support_density": "0.05"},
    "pessimism": _PLAIN | {"simulation.pessimism": "minimum"},
    "deviation": _PLAIN | {"simulation.pessimism": "deviation"},
    "stop": _PLAIN | {"simulation.uncertainty_stop": "0.1"},
    "exploring": _PLAIN | {"simulation.calibrate_exploring": "true"},
    "rounds": _PLAIN | {"rounds": str(ROUNDS)},
    "one_round": {"rounds": "1"},
    "full": {"rounds": str(ROUNDS)},
}
# Of the first round, the same in every recipe: stages, and what they make.
STAGES, SHARED = ("collect-logs", "train-ranker", "build-index"), ("sessions", "ranker", "index")
# Reports on the way that no figure of these recipes is read from, and that nothing depends on.
BRIEF = ("evaluation.fidelity_sessions=100", "curve_sessions=50")


def run_one(preset: str, recipe: str, seed: int) -> dict[str, Any]:
    """A run, and what it gave."""
    folder = ROOT / preset / recipe / f"seed_{seed}"
    share(SHARED, _shared(preset, seed) / "round_0", folder / "round_0")
    changes = [f"{name}={value}" for name, value in RECIPES[recipe].items()]
    run_demo(folder, preset, seed, [*changes, *BRIEF])
    return figures_of(folder)


def _shared(preset: str, seed: int) -> Path:
    return ROOT / preset / "shared" / f"seed_{seed}"


def prepare_one(preset: str, seed: int) -> None:
    """Logs, ranker and index of a preset and seed."""
    common = ("experiment=demo", f"world={preset}", "rounds=1")
    prepare(_shared(preset, seed), seed, STAGES, common)


def runs_of(preset: str, recipe: str, seeds: Sequence[int] = SEEDS) -> dict[int, dict[str, Any]]:
    """What the seeds gave that have run."""
    if recipe == "full":
        return presets.RECORDS.of_seeds(seeds, preset)
    return RECORDS.of_seeds(seeds, preset, recipe)


def of_rounds(preset: str, recipe: str) -> dict[str, dict]:
    """After each round of a recipe, in the world on the sessions that choose the round.

    `lift`: over the ranker refit on the same logs; `lift_over_first`: over the one that was there
    before the run; and the policy's mean.
    """
    runs, figures = runs_of(preset, recipe), {}
    for index in range(1, ROUNDS + 1):
        for name, unit in (("lift", "ratio"), ("lift_over_first", "ratio"), ("policy", "videos")):
            at = f"{name}.after_round_{index}"
            figures[f"{at}.{preset}.{recipe}"] = pooled(runs, at, recipe, SEEDS, unit=unit)
    return figures


def aggregate() -> dict[str, dict]:
    """Every recipe in every preset, the losing ones too."""
    figures: dict[str, dict] = {}
    for preset in PRESETS:
        full = runs_of(preset, "full")
        for name in ("kendall_tau", "kendall_tau_chance"):  # of the last round
            figures[f"{name}.{preset}"] = pooled(full, name, "full", SEEDS, unit="tau-b")
        figures[f"survival_gap.{preset}"] = over_all(full, "survival_gap", "full", max)
        for recipe in RECIPES:
            runs, run = runs_of(preset, recipe), f"{preset}.{recipe}"
            for name, of in (
                ("lift", f"lift.{METRIC}"),
                ("lift_depth_10plus", f"lift.{DEPTH}"),
                ("sim_lift", f"sim_lift.{METRIC}"),
            ):
                figures[f"{name}.{run}"] = pooled(runs, of, recipe, SEEDS)
            if int(RECIPES[recipe]["rounds"]) > 1:
                figures |= of_rounds(preset, recipe)
            for arm in ("policy", "ranker", "ranker_ensemble"):
                for name in ("mean", "sim_mean"):
                    value = mean(runs, f"{name}.{arm}", recipe, unit="videos")
                    figures[f"{name}.{run}.{arm}"] = value
    return figures


def table(figures: dict[str, dict]) -> str:
    """Simulated and true lifts, for the terminal."""
    lines = [f"{'':24s}{'simulated':>12s}{'true':>12s}"]
    for preset in PRESETS:
        for recipe in RECIPES:
            pair = [figures[f"{kind}.{preset}.{recipe}"] for kind in ("sim_lift", "lift")]
            cells = "".join(
                f"{'-' if f['value'] is None else format(f['value'], '+.3f'):>12s}" for f in pair
            )
            lines.append(f"{preset + ' ' + recipe:24s}{cells}")
    return "\n".join(lines)


def run_all(recipes: Sequence[str], seeds: Sequence[int], jobs: int) -> None:
    """What is absent, seed by seed, so that a stop leaves whole ones."""
    if "full" in recipes:
        presets.run_all(PRESETS, seeds, jobs)
    others = [recipe for recipe in recipes if recipe != "full"]
    todo = RECORDS.absent((p, r, s) for s, r, p in itertools.product(seeds, others, PRESETS))
    side_by_side(lambda run: prepare_one(*run), sorted({(p, s) for p, _, s in todo}), jobs)
    RECORDS.make(todo, lambda run: run_one(*run), jobs)


def main() -> None:
    """Run what is absent, then pool."""
    parser = options_of(__doc__, SEEDS)
    parser.add_argument(
        "--recipes",
        nargs="+",
        default=list(RECIPES),
        choices=RECIPES,
        metavar="RECIPE",
        help="run these alone",
    )
    options = parser.parse_args()
    if options.jobs:
        run_all(options.recipes, options.seeds, options.jobs)
    figures = aggregate()
    command = "experiments/sim_to_real/run"
    write_result(Path(__file__).parent, command, figures, seeds=list(SEEDS))
    print(table(figures))


if __name__ == "__main__":
    main()
