"""Four ways to explore, at equal steps in the world, from the same ranker.

What a run gave is kept in `runs.jsonl`, and a run that stands there is not made again; a stop costs
one run. Logs, ranker and index of a seed are the same for every kind: they are made once in
`runs/exploration/shared/seed_<n>`. Seeds, kinds and their settings are fixed here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from experiments.demo_runs import call, options_of, prepare
from experiments.exploration.one import MEASURED
from experiments.records import Records, pooled, side_by_side
from experiments.result import write_result

SEEDS = (0, 1, 2, 3, 4)
ROOT = Path("runs/exploration")
RECORDS = Records(Path(__file__).parent, ("kind", "seed"))
# Explorations alone are compared: `one.py` does not ask for the density of the logs.
COMMON = (
    "experiment=demo",
    "world=fatigue",
    "rounds=1",
    "curve_sessions=2000",
    "policy.support_density=0",
)
SMOKE = ("experiment=tiny", "world=fatigue")
# What each kind changes in `experiment=demo`; the first is what users get. A softmax always draws.
KINDS: dict[str, tuple[str, ...]] = {
    "subset": (),
    "uniform": ("training.exploration=uniform",),
    "softmax": (
        "training.exploration=softmax",
        "training.temperature=0.001",
        "training.epsilon_start=1",
        "training.epsilon_end=1",
    ),
    "ensemble": ("training.exploration=ensemble",),
}
STAGES = ("collect-logs", "train-ranker", "build-index")
UNITS = {
    "true_return_after": "reward",
    "true_return_during": "reward",
    "true_return_exploring": "reward",
    "ess": "ratio",
    "ess_uniform": "ratio",
    "out_of_reach": "ratio",
    "coverage": "ratio",
    "num_events": "events",
    "num_sessions": "sessions",
}


def folder_of(kind: str, seed: int) -> Path:
    """Where a run is kept."""
    return ROOT / kind / f"seed_{seed}"


def measure(kind: str, seed: int, common: tuple[str, ...]) -> dict[str, float]:
    """One run."""
    folder = folder_of(kind, seed)
    settings = [*common, f"seed={seed}", *KINDS[kind]]
    shared = str(folder_of("shared", seed))
    call("experiments.exploration.one", [shared, str(folder), *settings], folder)
    print(f"{kind}, seed {seed}: done", flush=True)
    return json.loads((folder / MEASURED).read_text())


def aggregate() -> dict[str, dict]:
    """Every kind, the losing ones too."""
    runs = {kind: RECORDS.of_seeds(SEEDS, kind) for kind in KINDS}
    figures = {
        f"{name}.{kind}": pooled(runs[kind], name, kind, SEEDS, unit=unit)
        for kind in KINDS
        for name, unit in UNITS.items()
    }
    ranker = pooled(runs["subset"], "true_return_ranker", "subset", SEEDS, unit="reward")
    return figures | {"true_return_ranker": ranker}


def table() -> str:
    """What has run, seed by seed, for the terminal."""
    names = [name for name in UNITS if not name.startswith("num_")]
    lines = [f"{'':18s}" + "".join(f"{name[-13:]:>15s}" for name in names)]
    for kind in KINDS:
        for seed, measured in RECORDS.of_seeds(SEEDS, kind).items():
            cells = "".join(f"{measured[name]:15.4f}" for name in names)
            lines.append(f"{f'{kind} {seed}':18s}{cells}")
    return "\n".join(lines)


def prepare_all(seeds: Sequence[int], common: tuple[str, ...], jobs: int) -> None:
    """What the runs of a seed begin with."""
    side_by_side(lambda s: prepare(folder_of("shared", s), s, STAGES, common), seeds, jobs)


def main() -> None:
    """Run what is absent, then pool."""
    global ROOT
    parser = options_of(__doc__, SEEDS)
    parser.add_argument("--smoke", action="store_true", help="one tiny seed, no result.json")
    arguments = parser.parse_args()
    if arguments.smoke:
        ROOT = Path("runs/exploration_smoke")
        prepare_all([0], SMOKE, arguments.jobs)
        for kind in KINDS:
            measure(kind, 0, SMOKE)
        return
    runs = [(kind, seed) for seed in arguments.seeds for kind in KINDS]
    todo = RECORDS.absent(runs)
    if arguments.jobs:
        prepare_all(sorted({seed for _, seed in todo}), COMMON, arguments.jobs)
        RECORDS.make(todo, lambda run: measure(run[0], run[1], COMMON), arguments.jobs)
    command = "experiments/exploration/run"
    write_result(Path(__file__).parent, command, aggregate(), seeds=list(SEEDS))
    print(table())


if __name__ == "__main__":
    main()
