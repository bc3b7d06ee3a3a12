"""Presets x recipes x seeds through `recomind run experiment=demo`, pooled into result.json.

A run is kept in `runs/sim_to_real/<preset>/<recipe>/seed_<n>` and skipped where its report is
whole, so a stop costs one run. The full recipe's runs are those of `experiments/presets`. Logs,
ranker and index of a preset and seed are the same in every recipe: they are copied from the full
recipe's first round, where they are there already. Seeds, recipes, baseline and metric are fixed
here.
"""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from experiments.demo_runs import environment_of, is_run, lift_of, options_of, run_demo, share
from experiments.result import figure, over_seeds, write_result
from recomind.evaluation.report import read_report

PRESETS = ("fatigue", "confounded", "steady")
SEEDS = (0, 1, 2, 3, 4)
METRIC, DEPTH = "watch_10s_per_session", "session_depth_10plus"
ROOT, FULL = Path("runs/sim_to_real"), Path("runs/presets")
ROUNDS = 3  # of logs, where there is more than the first
_PLAIN = {
    "simulation.gate": "false", "simulation.pessimism": "none", "policy.support_ratio": "0",
    "simulation.calibrate_exploring": "false", "policy.support_density": "0", "rounds": "1",
}  # fmt: skip
# What each recipe changes in `experiment=demo`; the last is what users get.
RECIPES: dict[str, dict[str, str]] = {
    "plain": _PLAIN,
    "gate": _PLAIN | {"simulation.gate": "true"},
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
SHARED = ("sessions", "ranker", "index")  # of the first round, the same in every recipe
# That round itself is the recipe `one_round`: all of it is there.
ALL_OF_ROUND = (*SHARED, "density", "simulator", "holdout_simulator", "fidelity", "policy")


def folder_of(preset: str, recipe: str, seed: int) -> Path:
    """Where a run is kept."""
    if recipe == "full":
        return FULL / preset / f"seed_{seed}"
    return ROOT / preset / recipe / f"seed_{seed}"


def run_one(preset: str, recipe: str, seed: int) -> None:
    """The run, unless it is there."""
    folder = folder_of(preset, recipe, seed)
    if is_run(folder):
        return
    shared = ALL_OF_ROUND if recipe == "one_round" else SHARED
    share(shared, folder_of(preset, "full", seed) / "round_0", folder / "round_0")
    changes = [f"{name}={value}" for name, value in RECIPES[recipe].items()]
    run_demo(folder, preset, seed, changes)


def seeds_of(preset: str, recipe: str) -> list[int]:
    """The seeds that have run."""
    return [seed for seed in SEEDS if is_run(folder_of(preset, recipe, seed))]


def pooled(preset: str, recipe: str, kind: str, metric: str = METRIC) -> dict[str, Any]:
    """Lift of policy over ranker, pooled over the seeds that have run; null for fewer than two."""
    folders = [folder_of(preset, recipe, seed) for seed in seeds_of(preset, recipe)]
    return of_seeds(recipe, [lift_of(folder, kind, metric).value for folder in folders])


def of_seeds(recipe: str, values: list[float | None], **more: Any) -> dict[str, Any]:
    """A figure over the seeds that have run; null for fewer than two."""
    if len(values) < 2:
        reason = f"{len(values)} of {len(SEEDS)} seeds of {recipe} have run"
        return {"value": None, "reason": reason}
    return over_seeds(values, **more)


def means(preset: str, recipe: str, arm: str, kind: str) -> dict[str, Any]:
    """Videos per session of an arm, per seed."""
    seeds = seeds_of(preset, recipe)
    if not seeds:
        return {"value": None, "reason": f"no seed of {recipe} has run"}
    entries = [environment_of(folder_of(preset, recipe, seed), kind) for seed in seeds]
    values = [entry["arms"][arm][METRIC]["mean"] for entry in entries]
    return figure(sum(values) / len(values), n=len(values), unit="videos", per_seed=values)


def of_rounds(preset: str, recipe: str) -> dict[str, dict]:
    """After each round of a recipe, in the world on the sessions that choose the round.

    `lift`: over the ranker refit on the same logs; `lift_over_first`: over the one that was there
    before the run; and the policy's mean.
    """
    runs = [read_report(folder_of(preset, recipe, s) / "report") for s in seeds_of(preset, recipe)]
    figures: dict[str, dict] = {}
    for index in range(ROUNDS):
        judged = [report["rounds"]["judged"][index] for report in runs]
        name = f"after_round_{index + 1}.{preset}.{recipe}"
        over_refit = [each["refit_lift"]["value"] for each in judged]
        over_first = [each["lift"]["value"] for each in judged]
        videos = [each["value"] for each in judged]
        figures[f"lift.{name}"] = of_seeds(recipe, over_refit)
        figures[f"lift_over_first.{name}"] = of_seeds(recipe, over_first)
        figures[f"policy.{name}"] = of_seeds(recipe, videos, unit="videos")
    return figures


def fidelity(preset: str) -> list[list[dict[str, Any]]]:
    """Reports on the training simulators of the full recipe: of every seed, one a round."""
    folders = [folder_of(preset, "full", seed) for seed in seeds_of(preset, "full")]
    files = [sorted(folder.glob("round_*/fidelity/fidelity.json")) for folder in folders]
    return [[json.loads(f.read_text())["simulators"]["simulator"] for f in run] for run in files]


def survival_gap(preset: str) -> dict[str, Any]:
    """Largest difference of predicted and observed survival on later days, of all rounds."""
    gaps = [max(each["leaving"]["max_difference"] for each in run) for run in fidelity(preset)]
    if not gaps:
        return {"value": None, "reason": "no seed of full has run"}
    return figure(max(gaps), n=len(gaps), unit="ratio", per_seed=gaps)


def kendall_tau(preset: str, section: str) -> dict[str, Any]:
    """Rank agreement of policies between simulator and world, in the full recipe's last round."""
    last = [simulators[-1] for simulators in fidelity(preset)]
    values = [simulator.get(section, {}).get("kendall_tau") for simulator in last]
    known = [value for value in values if isinstance(value, float)]
    if len(known) < 2:
        return {"value": None, "reason": f"{len(known)} reports have a rank agreement"}
    return over_seeds(known, unit="tau-b")


def aggregate() -> dict[str, dict]:
    """Every recipe in every preset, the losing ones too."""
    figures: dict[str, dict] = {}
    for preset in PRESETS:
        figures[f"kendall_tau.{preset}"] = kendall_tau(preset, "rank_agreement_acting")
        figures[f"kendall_tau_chance.{preset}"] = kendall_tau(preset, "rank_agreement")
        figures[f"survival_gap.{preset}"] = survival_gap(preset)
        for recipe in RECIPES:
            figures[f"lift.{preset}.{recipe}"] = pooled(preset, recipe, "world")
            depth = pooled(preset, recipe, "world", DEPTH)
            figures[f"lift_depth_10plus.{preset}.{recipe}"] = depth
            figures[f"sim_lift.{preset}.{recipe}"] = pooled(preset, recipe, "simulator")
            if int(RECIPES[recipe]["rounds"]) > 1:
                figures |= of_rounds(preset, recipe)
            for arm in ("policy", "ranker", "ranker_ensemble"):
                for name, kind in (("mean", "world"), ("sim_mean", "simulator")):
                    figures[f"{name}.{preset}.{recipe}.{arm}"] = means(preset, recipe, arm, kind)
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


def main() -> None:
    """Run what is absent, then pool."""
    options = options_of(__doc__, SEEDS).parse_args()
    if options.jobs:
        with ThreadPoolExecutor(options.jobs) as pool:
            # The full recipe first: the others copy its first round. A stop leaves whole seeds.
            for recipes in (["full"], [name for name in RECIPES if name != "full"]):
                runs = itertools.product(options.seeds, recipes, PRESETS)
                list(pool.map(lambda run: run_one(run[2], run[1], run[0]), runs))
    figures = aggregate()
    command = "experiments/sim_to_real/run"
    write_result(Path(__file__).parent, command, figures, seeds=list(SEEDS))
    print(table(figures))


if __name__ == "__main__":
    main()
