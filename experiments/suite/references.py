"""What is there to win: the reference policies of every world, without any training.

`python -m experiments.suite.references` measures what `headroom/runs.jsonl` does not have.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.records import Records
from experiments.result import figure
from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.evaluation.metrics import METRICS
from recomind.evaluation.rollout import rollout
from recomind.evaluation.statistics import paired_lift
from recomind.streams import draw_seeds, make_generator
from recomind.types import Policy, SessionEnvironment
from simulators.suite.logs import LOGS
from simulators.suite.references import references
from simulators.suite.worlds import WORLDS

METRIC = "reward_per_session"
RECORDS = Records(Path(__file__).parent / "headroom", ("world", "seed"))
SEED = 902  # the sessions'; the prices were chosen on those of 901 (docs/adr/0012)
NUM_CANDIDATES = 24  # uniform draws a step
SETTINGS: dict[str, dict[str, Any]] = {"repetition": {"num_items": 60}}  # as in conf/world/suite
EXCLUDED = {"repetition": 0}  # recent items that a pool leaves out; elsewhere the default


def measure(name: str, num_sessions: int) -> dict[str, Any]:
    """Rewards and lengths of the references and the logging policies, and the headroom."""
    arms: dict[str, tuple[SessionEnvironment, Policy]] = {}
    for logs in LOGS:
        world = WORLDS[name](logging=logs, **SETTINGS.get(name, {}))
        arms[f"logs_{logs}"] = (world, world.logging_policy())
    world = WORLDS[name](**SETTINGS.get(name, {}))
    arms |= {arm: (world, policy) for arm, policy in references(world).items()}
    return _figures(name, arms, num_sessions)


def _figures(
    name: str, arms: Mapping[str, tuple[SessionEnvironment, Policy]], num: int
) -> dict[str, Any]:
    recent = EXCLUDED.get(name, CandidatesConfig().exclude_recent)
    settings = CandidatesConfig(
        num_candidates=NUM_CANDIDATES, num_nearest=0, num_fresh=0, exclude_recent=recent
    )
    pool = CandidatePool(settings, arms["random"][0].catalogue.num_items)
    seeds, ratios = draw_seeds(num, make_generator(SEED)), {}
    found: dict[str, Any] = {"num_sessions": num}
    for arm, (world, policy) in arms.items():
        outcomes = rollout(world, policy, pool, seeds)
        ratios[arm] = METRICS[METRIC](outcomes)
        found[f"mean.{arm}"] = float(outcomes.reward.mean())
        found[f"depth.{arm}"] = float(outcomes.depth.double().mean())
    lift = paired_lift(ratios["look_ahead"], ratios["myopic"])
    return found | {"headroom": lift.value, "headroom.low": lift.low, "headroom.high": lift.high}


def figures() -> dict[str, dict]:
    """By world: headroom with its interval over sessions, and the mean of every reference."""
    found: dict[str, dict] = {}
    for name in WORLDS:
        made = RECORDS.find(name, SEED)
        if made is None:
            continue
        num = made["num_sessions"]
        bounds = {"low": made["headroom.low"], "high": made["headroom.high"], "n": num}
        found[f"headroom.{name}"] = figure(made["headroom"], over="sessions", **bounds)
        for arm in ("random", "myopic", "look_ahead", *(f"logs_{logs}" for logs in LOGS)):
            mean = figure(made[f"mean.{arm}"], unit="rewards per session", n=num)
            found[f"reference.{name}.{arm}"] = mean
    return found


def main() -> None:
    """Measure what is absent."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=2000, help="of each policy")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, seed in RECORDS.absent((name, SEED) for name in WORLDS):
        RECORDS.keep((name, seed), measure(name, options.sessions))
        print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main()
