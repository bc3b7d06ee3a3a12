"""The policy that trained in a simulator beside those that learned from the same logs alone.

For each number of logged events the logs, ranker, index and simulator are made once, in
`runs/offline/<preset>_<events>/seed_<n>/shared`, and so is the density of the logs; each algorithm
then trains on them in a folder of its own, and all arms play the same sessions of the world. A run
that stands in `runs.jsonl` is not made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.demo_runs import call, options_of, prepare, run_of, share
from experiments.records import Records, Run, pooled_or_only
from experiments.result import write_result
from recomind.evaluation.arms import Arm, InSupport
from recomind.evaluation.config import EvaluationConfig
from recomind.evaluation.report import environment_entry
from recomind.evaluation.rollout import SessionOutcomes, rollout
from recomind.pipeline.arms import logging_arm
from recomind.pipeline.loading import load_policy, load_pool, ranker_policy
from recomind.pipeline.run import Round
from recomind.policy import QPolicy, RandomPolicy
from recomind.streams import draw_seeds

METRIC = "watch_10s_per_session"
SEEDS = (0, 1, 2, 3, 4)
ROOT = Path("runs/offline")
RECORDS = Records(Path(__file__).parent, ("preset", "events", "algorithm", "seed"))
# Logged events -> sessions of the logging policy, which are as long as the world makes them.
SESSIONS = {"fatigue": {20_000: 1_000, 80_000: 4_000, 800_000: 40_000}}
SIMULATED = "dqn"  # what trains in the simulator; the others learn from the logs alone
ALGORITHMS = (SIMULATED, "bc", "cql", "iql")
BASELINES = ("logging_policy", "random", "ranker_in_support", "random_in_support")
COMMON = ("experiment=demo", "size=small", "rounds=1", "curve_sessions=50")
STAGES = ("collect-logs", "train-ranker", "build-index", "fit-simulator")
NO_FIDELITY = ("evaluation.fidelity_sessions=0",)
SHARED = ("sessions", "ranker", "index", "simulator", "holdout_simulator", "density")


def settings(preset: str, events: int, seed: int) -> tuple[str, ...]:
    """Of every run on these logs."""
    sessions = SESSIONS[preset][events]
    logs = (f"world={preset}", f"seed={seed}", f"collect.num_sessions={sessions}")
    return (*COMMON, *NO_FIDELITY, *logs)


def folder_of(preset: str, events: int, seed: int, name: str) -> Path:
    """Where a run is kept."""
    return ROOT / f"{preset}_{events}" / f"seed_{seed}" / name


def trained(preset: str, events: int, algorithm: str, seed: int) -> Round:
    """One algorithm's policy on the shared logs."""
    shared, folder = (folder_of(preset, events, seed, name) for name in ("shared", algorithm))
    common = settings(preset, events, seed)
    prepare(shared, seed, STAGES, common)
    share(SHARED, shared / "round_0", folder / "round_0")
    changes = [*common, f"training.algorithm={algorithm}"]
    call("recomind.cli", ["train-policy", *changes, f"hydra.run.dir={folder}"], folder)
    share(("density",), folder / "round_0", shared / "round_0")  # equal for all of them
    return run_of(folder, changes).round(0)


def arms_of(done: Round, algorithm: str) -> dict[str, Arm]:
    """The ranker and the trained policy; beside what simulates, the baselines too.

    The support is the same for all algorithms: it is the density's.
    """
    pool, network = load_pool(done), load_policy(done)
    arms = {
        "ranker": Arm(policy=ranker_policy(done), candidates=pool),
        "policy": Arm(policy=QPolicy(network), candidates=pool),
    }
    if algorithm == SIMULATED:
        by_chance = InSupport(network, by_chance=True)
        arms["random"] = Arm(policy=RandomPolicy(), candidates=pool)
        arms["ranker_in_support"] = Arm(policy=InSupport(network), candidates=pool)
        arms["random_in_support"] = Arm(policy=by_chance, candidates=pool)
        arms |= logging_arm(done.run)
    return arms


def measure(run: Run, num_sessions: int) -> dict[str, Any]:
    """Train where that is not done, and play the same sessions with every arm."""
    preset, events, algorithm, seed = run
    done = trained(preset, events, algorithm, seed)
    world = done.run.require_world("offline")
    seeds = draw_seeds(num_sessions, done.run.generator("offline"))
    outcomes = {
        name: rollout(world, arm.policy, arm.candidates, seeds)
        for name, arm in arms_of(done, algorithm).items()
    }
    found: dict[str, Any] = {"num_sessions": num_sessions, "logged": len(done.dataset())}
    found |= _lift(outcomes, "policy", algorithm)
    for name in BASELINES:
        found |= _lift(outcomes, name, name) if name in outcomes else {}
    return found


def _lift(outcomes: Mapping[str, SessionOutcomes], arm: str, name: str) -> dict[str, Any]:
    played = {each: outcomes[each] for each in ("ranker", arm)}
    entry = environment_entry("world", "world", played, EvaluationConfig(policy_arm=arm))
    lift = entry["lift"][METRIC]
    return {
        name: lift["value"],
        f"{name}.low": lift["low"],
        f"{name}.high": lift["high"],
        f"{name}.mean": entry["arms"][arm][METRIC]["mean"],
    }


def aggregate() -> dict[str, Any]:
    """By preset, arm and events: over seeds where there are several, else over sessions."""
    runs: dict[tuple[str, str, int], dict[int, dict[str, Any]]] = {}
    for record in RECORDS.all():
        for arm in (record["algorithm"], *BASELINES):
            if arm in record["figures"]:
                key = record["preset"], arm, record["events"]
                runs.setdefault(key, {})[record["seed"]] = record["figures"]
    return {
        f"lift.{preset}.{arm}.{events}": pooled_or_only(by_seed, arm, f"{preset} {events}")
        for (preset, arm, events), by_seed in sorted(runs.items())
    }


def main() -> None:
    """Make what is absent, pool, write."""
    parser = options_of(__doc__, SEEDS)
    parser.add_argument("--events", type=int, nargs="+", default=[20_000], metavar="EVENTS")
    parser.add_argument("--sessions", type=int, default=1000, help="of each arm")
    options = parser.parse_args()
    wanted = [
        ("fatigue", events, algorithm, seed)
        for events in options.events
        for seed in options.seeds
        for algorithm in ALGORITHMS
    ]
    if options.jobs:
        # One after another: the algorithms of a seed share their logs.
        for run in RECORDS.absent(wanted):
            RECORDS.keep(run, measure(run, options.sessions))
            print(*run, "done", flush=True)
    seeds = sorted({record["seed"] for record in RECORDS.all()})
    write_result(Path(__file__).parent, "experiments/offline/run", aggregate(), seeds=seeds)


if __name__ == "__main__":
    main()
