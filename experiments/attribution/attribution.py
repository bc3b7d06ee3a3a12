"""Is a lift the support's or was it learned? The arms of runs in their world.

`python -m experiments.attribution.attribution FOLDER ...` measures each finished run that
`runs.jsonl` does not have, and pools what stands there into `result.json`. With `--train STEPS` the
last round's policy is trained anew, under either support, on logs, rankers and simulator that
the folder has; nothing in it but the density of the logs is written.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from experiments.records import Records, pooled_or_only
from experiments.result import write_result
from recomind.evaluation.arms import Arm, InSupport
from recomind.evaluation.config import EvaluationConfig
from recomind.evaluation.outside import outside_shares
from recomind.evaluation.report import environment_entry
from recomind.evaluation.rollout import SessionOutcomes, rollout
from recomind.pipeline import Round, Run, complete
from recomind.pipeline.loading import load_policy, load_pool, load_simulator, problem, ranker_policy
from recomind.pipeline.run_file import read_config
from recomind.pipeline.stages.fit_density import FitDensity
from recomind.policy import QNetwork, QPolicy
from recomind.streams import draw_seeds
from recomind.training.trainer import train_policy
from recomind.types import SessionEnvironment

METRIC = "watch_10s_per_session"
ARMS = ("ranker_in_support", "random_in_support", "policy")
OWN, KEEPS, DENSE = "own", "keeps_ranker", "density"  # the run's; with and without the exception
RECORDS = Records(Path(__file__).parent, ("preset", "seed", "round", "support"))
_FEW = 200  # sessions that a share of steps is counted in


def arms_of(last: Round, network: QNetwork) -> dict[str, Arm]:
    """The ranker of a round, and the policy's support without and with what was learned."""
    policies = {
        "ranker": ranker_policy(last),
        "ranker_in_support": InSupport(network),
        "random_in_support": InSupport(network, by_chance=True),
        "policy": QPolicy(network),
    }
    pool, own = load_pool(last), load_pool(last, last.run.policy_index)
    return {
        name: Arm(policy=policy, candidates=pool if name == "ranker" else own)
        for name, policy in policies.items()
    }


def trained(last: Round, support: str, num_env_steps: int) -> QNetwork:
    """The round's policy under another support than the run's own, after so many steps."""
    config = last.config
    config.policy.support_keeps_ranker = support == KEEPS
    complete(FitDensity(), last, quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        found = train_policy(
            problem(last),
            replace(config.training, num_env_steps=num_env_steps),
            seed=last.seed("train-policy"),
            checkpoint_dir=Path(folder),
            on_iteration=lambda report: None,
        )
    return cast(QNetwork, found)


def measure(last: Round, network: QNetwork, num_sessions: int) -> dict[str, Any]:
    """Lifts over the ranker, and of the policy over the ranker in its support."""
    world, arms = last.run.require_world("attribution"), arms_of(last, network)
    seeds = draw_seeds(num_sessions, last.run.generator("attribution"))
    found: dict[str, Any] = {"num_sessions": num_sessions}
    entries = {
        kind: _played(environment, arms, seeds)
        for kind, environment in (("world", world), ("simulator", load_simulator(last)))
    }
    true = entries["world"]
    for name in ARMS:
        settings = EvaluationConfig(policy_arm=name)
        entry = environment_entry("world", "world", true, settings)
        found |= _named(f"lift.{name}", entry["lift"][METRIC])
    for kind, outcomes in entries.items():
        entry = environment_entry(kind, kind, outcomes, EvaluationConfig())
        prefix = "" if kind == "world" else "sim_"
        found |= _named(f"{prefix}rl_lift", entry["rl_lift"][METRIC])
        means = {arm: measures[METRIC]["mean"] for arm, measures in entry["arms"].items()}
        found |= {f"{prefix}mean.{arm}": mean for arm, mean in means.items()}
    shares = outside_shares(world, arms, network, seeds[:_FEW])
    return found | {f"outside_share.{arm}": share for arm, share in shares.items()}


def _played(
    environment: SessionEnvironment, arms: Mapping[str, Arm], seeds: Tensor
) -> dict[str, SessionOutcomes]:
    return {
        name: rollout(environment, arm.policy, arm.candidates, seeds) for name, arm in arms.items()
    }


def _named(name: str, lift: Mapping[str, Any]) -> dict[str, Any]:
    return {name: lift["value"], f"{name}.low": lift["low"], f"{name}.high": lift["high"]}


def aggregate() -> dict[str, Any]:
    """By preset and support: over seeds where there are several, else one run's over sessions."""
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for record in RECORDS.all():
        support = "" if record["support"] == OWN else f".{record['support']}"
        groups.setdefault(record["preset"] + support, {})[record["seed"]] = record["figures"]
    figures = {}
    for preset, runs in groups.items():
        for name in (*(f"lift.{arm}" for arm in ARMS), "rl_lift"):
            group, _, arm = name.partition(".")
            key = ".".join(part for part in (group, preset, arm) if part)
            figures[key] = pooled_or_only(runs, name, preset)
    return figures


def main() -> None:
    """Measure what is absent, pool, write."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="runs in the embedded world")
    parser.add_argument("--sessions", type=int, default=1000, help="of each arm")
    parser.add_argument("--train", type=int, default=0, metavar="STEPS", help="train anew")
    options = parser.parse_args()
    for folder in options.folders:
        for support in (KEEPS, DENSE) if options.train else (OWN,):
            last = Run(read_config(folder)).rounds[-1]
            key = (last.config.world["preset_name"], last.config.seed, last.index, support)
            for absent in RECORDS.absent([key]):
                network = (
                    trained(last, support, options.train) if options.train else load_policy(last)
                )
                RECORDS.keep(absent, measure(last, network, options.sessions))
    seeds = sorted({record["seed"] for record in RECORDS.all()})
    figures = aggregate()
    write_result(Path(__file__).parent, "experiments/attribution/run", figures, seeds=seeds)


if __name__ == "__main__":
    main()
