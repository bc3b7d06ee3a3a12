"""Worlds x logs x rounds x seeds through `recomind run world=suite/...`, pooled into result.json.

What a run gave is kept in `runs.jsonl` by its number of rounds, and a run that stands there is not
made again. A run of two rounds goes on in the folder of the run of one.
"""

from __future__ import annotations

import itertools
import math
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.demo_runs import call, run_of
from experiments.records import Records
from experiments.result import write_result
from experiments.suite import figures, references
from recomind.candidates import fresh_items, make_pool
from recomind.data import storable
from recomind.evaluation.rollout import rollout
from recomind.streams import draw_seeds, make_generator
from simulators.suite.logs import LOGS
from simulators.suite.worlds import CHOSEN_ON, HELD_BACK, WORLDS

FOLDER, ROOT = Path(__file__).parent, Path("runs/suite")
NAMES = ("size", "world", "logs", "events", "round", "seed")
RECORDS = Records(FOLDER, NAMES)
SEEDS = (0, 1, 2)
_PILOT_SESSIONS = 400  # by the logging policy: they tell how long its sessions are
_HORIZON = "simulation.horizon=30"
# The density of the logs always constrains, as it did before ADR 17.
_ALWAYS = "policy.support_evidence=null"
# No member of the simulator is made of trees, as before ADR 21.
_RANKERS = "simulation.tree_member=false"
_BRIEF = (
    *("size=full", _HORIZON, "evaluation.num_sessions=1000", "evaluation.max_sessions=1000"),
    "evaluation.fidelity_sessions=0",
)
# What a run changes in the defaults beside world and logs. `full` is what issue and gate ask for;
# `brief_trees` trains as long and judges on fewer sessions, `brief` did so before ADR 21, and a
# `pilot` takes a few minutes.
SIZES: dict[str, tuple[str, ...]] = {
    "full": ("size=full", _HORIZON),
    "brief_trees": _BRIEF,
    "brief": (*_BRIEF, _RANKERS),
    "brief_density": (*_BRIEF, _RANKERS, _ALWAYS),
    "pilot": (
        *("size=tiny", _HORIZON, "ranker.num_epochs=3", "training.num_env_steps=8000"),
        *("evaluation.num_sessions=400", "evaluation.max_sessions=400", "curve_sessions=20"),
        *("evaluation.fidelity_sessions=0", _RANKERS, _ALWAYS),
    ),
}


def run_one(size: str, world: str, logs: str, events: int, rounds: int, seed: int) -> dict:
    """A run, and what it gave."""
    folder = ROOT / size / world / f"{logs}_{events}" / f"seed_{seed}"
    settings = [f"world=suite/{world}", f"world.logging={logs}", *SIZES[size], f"seed={seed}"]
    num = sessions_for(events, [*settings, f"name={world}"])
    settings += [f"collect.num_sessions={num}", f"collect.fresh_sessions={num}"]
    settings += [f"rounds={rounds}", "exit_unreleased=0"]
    call("recomind.cli", ["run", *settings, f"hydra.run.dir={folder}"], folder)
    print(f"{folder}, {rounds} rounds: done", flush=True)
    return figures.of_run(run_of(folder, settings))


def sessions_for(events: int, settings: Sequence[str]) -> int:
    """How many sessions of the logging policy have so many events."""
    run = run_of(Path("unused"), settings)
    world = run.require_world("suite")
    catalogue = storable(world.catalogue, run.config.collect.max_catalogue_items)
    pool = make_pool(run.config.candidates, catalogue, None, fresh_items(catalogue))
    seeds = draw_seeds(_PILOT_SESSIONS, make_generator(903))
    depth = rollout(world, world.logging_policy(), pool, seeds).depth.double().mean()
    return math.ceil(events / float(depth))


def aggregate() -> dict[str, dict]:
    """Every figure of every run that there is, the losing ones too."""
    return references.figures() | figures.pool(RECORDS)


def _options() -> Any:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time; 0: pool only")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(_in_turn()))
    parser.add_argument("--logs", nargs="+", choices=LOGS, default=["weak"])
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    return parser.parse_args()


def _in_turn() -> Sequence[str]:
    """Worlds of both halves in turn, so that a stop leaves some of each."""
    return [name for pair in zip(HELD_BACK, CHOSEN_ON, strict=True) for name in pair]


def _todo(options: Any) -> list[tuple[Any, ...]]:
    """What is absent, seed by seed, the first rounds first."""
    product = itertools.product(options.seeds, options.rounds, options.logs, options.worlds)
    size, events = options.size, options.events
    return RECORDS.absent((size, world, logs, events, r, seed) for seed, r, logs, world in product)


def main() -> None:
    """Run what is absent, then pool."""
    options = _options()
    torch.set_num_threads(1)
    if options.jobs:
        RECORDS.make(_todo(options), lambda run: run_one(*run), options.jobs)
    found: Mapping[str, Any] = aggregate()
    seeds = sorted({record["seed"] for record in RECORDS.all()})
    write_result(FOLDER, "experiments/suite/run", dict(found), seeds=seeds)
    print(figures.table(RECORDS))


if __name__ == "__main__":
    main()
