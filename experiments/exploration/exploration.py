"""Four ways to explore, at equal steps in the world, from the same ranker.

A run is kept in `runs/exploration/<kind>/seed_<n>/measured.json` and skipped where that is there,
so a stop costs one run. Logs, ranker and index of a seed are the same for every kind: they are made
once in `runs/exploration/shared/seed_<n>`. Seeds, kinds and their settings are fixed here.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from experiments.demo_runs import call, options_of
from experiments.exploration.one import MEASURED
from experiments.result import over_seeds, write_result

SEEDS = (0, 1, 2, 3, 4)
ROOT = Path("runs/exploration")
# Explorations alone are compared: `one.py` does not ask for the density of the logs.
COMMON = (
    "experiment=demo", "world=fatigue", "rounds=1", "curve_sessions=2000",
    "policy.support_density=0",
)  # fmt: skip
SMOKE = ("experiment=tiny", "world=fatigue")
# What each kind changes in `experiment=demo`; the first is what users get. A softmax always draws.
KINDS: dict[str, tuple[str, ...]] = {
    "subset": (),
    "uniform": ("training.exploration=uniform",),
    "softmax": (
        "training.exploration=softmax", "training.temperature=0.001",
        "training.epsilon_start=1", "training.epsilon_end=1",
    ),
    "ensemble": ("training.exploration=ensemble",),
}  # fmt: skip
STAGES = ("collect-logs", "train-ranker", "build-index")
UNITS = {
    "true_return_after": "reward", "true_return_during": "reward",
    "true_return_exploring": "reward", "ess": "ratio", "ess_uniform": "ratio",
    "out_of_reach": "ratio", "coverage": "ratio", "num_events": "events",
    "num_sessions": "sessions",
}  # fmt: skip


def folder_of(kind: str, seed: int) -> Path:
    """Where a run is kept."""
    return ROOT / kind / f"seed_{seed}"


def prepare(seed: int, common: tuple[str, ...]) -> None:
    """Logs, ranker and index of a seed; finished stages are skipped by themselves."""
    folder = folder_of("shared", seed)
    for stage in STAGES:
        call("recomind.cli", [stage, *common, f"seed={seed}", f"hydra.run.dir={folder}"], folder)
    print(f"shared, seed {seed}: done", flush=True)


def measure(kind: str, seed: int, common: tuple[str, ...]) -> None:
    """One run, unless it is there."""
    folder = folder_of(kind, seed)
    if (folder / MEASURED).is_file():
        return
    settings = [*common, f"seed={seed}", *KINDS[kind]]
    shared = str(folder_of("shared", seed))
    call("experiments.exploration.one", [shared, str(folder), *settings], folder)
    print(f"{kind}, seed {seed}: done", flush=True)


def pooled(kind: str, name: str, unit: str) -> dict[str, Any]:
    """Mean over the seeds that have run with a Student interval; null for fewer than two."""
    files = [folder_of(kind, seed) / MEASURED for seed in SEEDS]
    values = [json.loads(file.read_text())[name] for file in files if file.is_file()]
    if len(values) < 2:
        reason = f"{len(values)} of {len(SEEDS)} seeds of {kind} have run"
        return {"value": None, "reason": reason}
    return over_seeds(values, unit=unit)


def aggregate() -> dict[str, dict]:
    """Every kind, the losing ones too."""
    figures = {f"{n}.{kind}": pooled(kind, n, unit) for kind in KINDS for n, unit in UNITS.items()}
    return figures | {"true_return_ranker": pooled("subset", "true_return_ranker", "reward")}


def table() -> str:
    """What has run, seed by seed, for the terminal."""
    names = [name for name in UNITS if not name.startswith("num_")]
    lines = [f"{'':18s}" + "".join(f"{name[-13:]:>15s}" for name in names)]
    for kind in KINDS:
        for file in sorted((ROOT / kind).glob(f"seed_*/{MEASURED}")):
            measured = json.loads(file.read_text())
            cells = "".join(f"{measured[name]:15.4f}" for name in names)
            lines.append(f"{kind + ' ' + file.parent.name:18s}{cells}")
    return "\n".join(lines)


def main() -> None:
    """Run what is absent, then pool."""
    global ROOT
    parser = options_of(__doc__, SEEDS)
    parser.add_argument("--smoke", action="store_true", help="one tiny seed, no result.json")
    arguments = parser.parse_args()
    seeds: list[int] = arguments.seeds
    common: tuple[str, ...] = COMMON
    if arguments.smoke:
        seeds, common, ROOT = [0], SMOKE, Path("runs/exploration_smoke")
    if arguments.jobs:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda seed: prepare(seed, common), seeds))
            todo = [(kind, seed) for seed in seeds for kind in KINDS]
            list(pool.map(lambda run: measure(run[0], run[1], common), todo))
    if not arguments.smoke:
        command = "experiments/exploration/run"
        write_result(Path(__file__).parent, command, aggregate(), seeds=list(SEEDS))
    print(table())


if __name__ == "__main__":
    main()
