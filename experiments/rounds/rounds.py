"""Three rounds in `City` through `recomind run world=gym`, pooled into result.json.

What a run gave is kept in `runs.jsonl`, and a run that stands there is not made again; a run that
was stopped goes on in its folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.demo_runs import call, options_of
from experiments.records import Records, pooled_or_only
from experiments.result import write_result
from recomind.evaluation.report import read_report

SEEDS, ROUNDS = (0, 1, 2), 3
METRIC = "clicked_per_session"
ROOT = Path("runs/rounds")
RECORDS = Records(Path(__file__).parent, ("recipe", "seed"))
SETTINGS = (
    *("world=gym", "world.env_id=experiments.rounds.city:City-v0", "world.horizon=100"),
    *("world.reading=experiments.rounds.reading.CityReading", "allowed_targets=[experiments]"),
    *("+reward.clicked=1.0", f"gate.target_metric={METRIC}"),
    *("evaluation.num_sessions=1000", "evaluation.fidelity_sessions=0", f"rounds={ROUNDS}"),
)
# What the training simulator's members are made of: the default, and the default before ADR 21.
DEFAULT = "trees"
RECIPES = {DEFAULT: (), "rankers": ("simulation.tree_member=false",)}
# Kind of an environment -> what its figures begin with; without a prefix they are true.
PREFIXES = {"world": "", "simulator": "sim_", "holdout_simulator": "holdout_"}


def run_one(recipe: str, seed: int) -> dict[str, Any]:
    """A run, and what it gave."""
    folder = ROOT / recipe / f"seed_{seed}"
    settings = [*SETTINGS, *RECIPES[recipe], f"seed={seed}"]
    settings += ["exit_unreleased=0", f"hydra.run.dir={folder}"]
    call("recomind.cli", ["run", *settings], folder)
    print(f"{folder}: done", flush=True)
    return figures_of(folder)


def figures_of(folder: Path) -> dict[str, Any]:
    """The kept round's policy in world and simulators, and every round as the world judged it."""
    report = read_report(folder / "report")
    found: dict[str, Any] = {"released": int(report["gate"]["released"])}
    for entry in report["environments"]:
        if entry["kind"] not in PREFIXES:
            continue
        prefix = PREFIXES[entry["kind"]]
        found["num_sessions"] = entry["arms"]["policy"][METRIC]["n"]
        found |= {f"{prefix}mean.{arm}": m[METRIC]["mean"] for arm, m in entry["arms"].items()}
        over_first = entry["lift_over"].get("first_ranker", {})
        for name, lifts in (
            ("lift", entry["lift"]),
            ("rl_lift", entry["rl_lift"]),
            ("lift_over_first_ranker", over_first),
        ):
            found |= _bounds(f"{prefix}{name}", lifts[METRIC]) if METRIC in lifts else {}
    for judged in report["rounds"]["judged"]:
        behind = f"round_{judged['round'] + 1}"
        found[f"policy.{behind}"] = judged["value"]
        found[f"refit_ranker.{behind}"] = judged["refit_value"]
        found |= _bounds(f"lift.{behind}", judged["refit_lift"])
        found |= _bounds(f"lift_over_first_ranker.{behind}", judged["lift"])
    return found


def _bounds(name: str, lift: dict[str, Any]) -> dict[str, Any]:
    return {name: lift["value"], f"{name}.low": lift["low"], f"{name}.high": lift["high"]}


def aggregate() -> dict[str, Any]:
    """Every figure of every seed: over seeds where there are several, else of the one run.

    Those of the recipe of before end with its name.
    """
    found: dict[str, Any] = {}
    for recipe in RECIPES:
        suffix = "" if recipe == DEFAULT else f".{recipe}"
        by_seed = {r["seed"]: r["figures"] for r in RECORDS.all() if r["recipe"] == recipe}
        names = {name for figures in by_seed.values() for name in figures}
        found |= {
            f"{name}{suffix}": pooled_or_only(by_seed, name, "City")
            for name in sorted(names - {"num_sessions"})
            if not name.endswith((".low", ".high"))
        }
    return found


def main() -> None:
    """Make what is absent, pool, write."""
    parser = options_of(__doc__, SEEDS)
    parser.add_argument("--recipe", choices=RECIPES, default=DEFAULT)
    options = parser.parse_args()
    if options.jobs:
        runs = RECORDS.absent((options.recipe, seed) for seed in options.seeds)
        RECORDS.make(runs, lambda run: run_one(*run), options.jobs)
    seeds = sorted({record["seed"] for record in RECORDS.all()})
    write_result(Path(__file__).parent, "experiments/rounds/run", aggregate(), seeds=seeds)


if __name__ == "__main__":
    main()
