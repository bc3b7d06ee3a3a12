"""Is a lift the support's or was it learned? The arms of finished runs in their world.

`python -m experiments.attribution.attribution RUN_FOLDER ...` measures each finished run that
`runs.jsonl` does not have, and pools what stands there into `result.json`.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.records import Records, pooled
from experiments.result import figure, write_result
from recomind.evaluation.arms import Arm, InSupport
from recomind.evaluation.config import EvaluationConfig
from recomind.evaluation.report import environment_entry
from recomind.evaluation.rollout import rollout
from recomind.pipeline.loading import load_policy, load_pool, ranker_policy
from recomind.pipeline.run import Round, Run
from recomind.pipeline.run_file import read_config
from recomind.policy import QPolicy
from recomind.streams import draw_seeds

METRIC = "watch_10s_per_session"
ARMS = ("ranker_in_support", "random_in_support", "policy")
RECORDS = Records(Path(__file__).parent, ("preset", "seed", "round"))


def arms_of(last: Round) -> dict[str, Arm]:
    """The ranker of a round, and the policy's support without and with what was learned."""
    pool, network = load_pool(last), load_policy(last)
    policies = {
        "ranker": ranker_policy(last),
        "ranker_in_support": InSupport(network),
        "random_in_support": InSupport(network, by_chance=True),
        "policy": QPolicy(network),
    }
    own = load_pool(last, last.run.policy_index)
    return {
        name: Arm(policy=policy, candidates=pool if name == "ranker" else own)
        for name, policy in policies.items()
    }


def measure(last: Round, num_sessions: int) -> dict[str, Any]:
    """Lifts over the ranker, and of the policy over the ranker in its support."""
    world = last.run.require_world("attribution")
    seeds = draw_seeds(num_sessions, last.run.generator("attribution"))
    outcomes = {
        name: rollout(world, arm.policy, arm.candidates, seeds)
        for name, arm in arms_of(last).items()
    }
    found: dict[str, Any] = {"num_sessions": num_sessions}
    for name in ARMS:
        settings = EvaluationConfig(policy_arm=name)
        entry = environment_entry("world", "world", outcomes, settings)
        found |= _named(f"lift.{name}", entry["lift"][METRIC])
    return found | _named("rl_lift", entry["rl_lift"][METRIC])


def _named(name: str, lift: Mapping[str, Any]) -> dict[str, Any]:
    return {name: lift["value"], f"{name}.low": lift["low"], f"{name}.high": lift["high"]}


def aggregate() -> dict[str, Any]:
    """By preset: over seeds where there are several, else one run's interval over sessions."""
    by_preset: dict[str, dict[int, dict[str, Any]]] = {}
    for record in RECORDS.all():
        by_preset.setdefault(record["preset"], {})[record["seed"]] = record["figures"]
    figures = {}
    for preset, runs in by_preset.items():
        for name in (*(f"lift.{arm}" for arm in ARMS), "rl_lift"):
            group, _, arm = name.partition(".")
            key = ".".join(part for part in (group, preset, arm) if part)
            figures[key] = _figure(runs, name, preset)
    return figures


def _figure(runs: Mapping[int, Mapping[str, Any]], name: str, preset: str) -> dict[str, Any]:
    if len(runs) > 1:
        return pooled(runs, name, preset, list(runs))
    (only,) = runs.values()
    bounds = {"low": only[f"{name}.low"], "high": only[f"{name}.high"]}
    return figure(only[name], n=only["num_sessions"], over="sessions of one run", **bounds)


def main() -> None:
    """Measure what is absent, pool, write."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="finished runs in the embedded world")
    parser.add_argument("--sessions", type=int, default=1000, help="of each arm")
    options = parser.parse_args()
    for folder in options.folders:
        last = Run(read_config(folder)).rounds[-1]
        key = (last.config.world["preset_name"], last.config.seed, last.index)
        for absent in RECORDS.absent([key]):
            RECORDS.keep(absent, measure(last, options.sessions))
    seeds = sorted({record["seed"] for record in RECORDS.all()})
    figures = aggregate()
    write_result(Path(__file__).parent, "experiments/attribution/run", figures, seeds=seeds)


if __name__ == "__main__":
    main()
