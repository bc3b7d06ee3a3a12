"""Rounds without a world of their own: served over HTTP, logged, joined, trained, served again."""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.demo_runs import call
from experiments.loop.estimate import greedy_estimate
from experiments.loop.players import Ask, deliver, play
from experiments.loop.service import Service
from experiments.result import figure, over_seeds, write_result
from recomind import open_run
from recomind.artifacts import write_json
from recomind.data.sources.served.decisions import read_decisions
from recomind.data.sources.served.outcomes import OutcomeTable
from recomind.data.sources.served.source import ServedLogs
from recomind.evaluation.rollout import rollout
from recomind.streams import draw_seeds, make_generator
from simulators.video_feed.world import VideoFeed

HERE = Path(__file__).parent
RELEASED = (0, 3)  # what the gate says of small runs is not the question here
HORIZON, LENGTH, NUM_ITEMS = 12, 16, 1000
EXPLORATION = ("serving.exploration.epsilon=0.2", "serving.exploration.subset_size=2")
SERVING = (*EXPLORATION, "serving.allow_unreleased=true", "serving.request_timeout_s=30")
SHARED = (
    "exit_unreleased=0",
    f"simulation.horizon={HORIZON}",
    f"ranker.history_length={LENGTH}",
    "gate.target_metric=watch_10s_per_session",
)


@dataclass(kw_only=True, slots=True)
class Loop:
    """One seed's loop."""

    folder: Path
    seed: int
    sizes: Sequence[str]  # settings of every run
    num_sessions: int  # played in each round
    num_true: int  # played to know a policy's value
    num_kills: int  # kills of the service in each round
    never: float  # share of outcomes that never come, or come too late

    def settings(self, round_index: int) -> list[str]:
        """Settings of the run whose policy is served in a round: the first one's, or the loop's."""
        common = [*SHARED, *self.sizes, f"seed={self.seed}"]
        if round_index == 0:
            sizes = (f"num_items={NUM_ITEMS}", f"horizon={HORIZON}", f"history_length={LENGTH}")
            world = ["size=tiny", "world=fatigue", *(f"world.{size}" for size in sizes)]
            logged = f"collect.num_sessions={self.num_sessions}"
            return [*world, logged, *common, f"output={self.folder}/first"]
        served = [
            f"continue_from={self.run_folder(round_index - 1)}",
            f"data.decisions={self.folder}/decisions",
            f"data.outcomes.path={self.folder}/outcomes",
            "data.outcomes.left=left",
            "ranker.refit_on=auto",
        ]
        output = f"output={self.run_folder(round_index)}"
        return ["size=tiny", "data=served", *served, *common, output]

    def run_folder(self, round_index: int) -> Path:
        """Folder of that run."""
        return self.folder / (f"round_{round_index}" if round_index else "first")

    def train(self, round_index: int) -> None:
        """The policy that is served in a round, on the logs of all rounds before."""
        call("recomind.cli", ["run", *self.settings(round_index)], self.run_folder(round_index))

    def serve(self, round_index: int) -> dict[str, Any]:
        """Play sessions against the service; what it answered and what came of it goes to disk."""
        draw = random.Random(f"{self.seed}/{round_index}")
        log = f"serving.decision_log={self.folder}/decisions"
        with Service([*self.settings(round_index), *SERVING, log]) as service:
            ask = killing(service, self.num_kills, draw)
            outcomes = self._play(round_index, ask)
        answered = {outcome["decision_id"] for outcome in outcomes}
        logged = set(read_decisions(self.folder / "decisions")["decision_id"])
        said = deliver(
            outcomes,
            self.folder / "outcomes",
            time.time_ns() // 1_000_000,
            draw,
            never=self.never,
        )
        return said | {
            "answered": len(answered),
            "lost": len(answered - logged),
            "kills": service.num_kills,
        }

    def _play(self, round_index: int, ask: Ask) -> list[dict[str, Any]]:
        seeds = draw_seeds(self.num_sessions, make_generator(1000 * self.seed + round_index))
        found = []
        for part in seeds.split(64):
            found += play(world(), part, ask, f"{round_index}")
        return found

    def train_and_judge(self, round_index: int) -> dict[str, Any]:
        """The true value of a round's policy, greedy, on the same users in every round.

        With the gate's verdict, which knew no world from the second round on.
        """
        self.train(round_index)
        run = open_run(self.run_folder(round_index))
        seeds = draw_seeds(self.num_true, make_generator(77))
        found = {"released": run.report["gate"]["released"]}
        for name, policy in (("policy", run.policy), ("ranker", run.ranker)):
            reward = rollout(world(), policy, run.pool, seeds, 512).reward
            found[name] = float(reward.mean())
            found[f"{name}_error"] = float(reward.std() / len(reward) ** 0.5)
        return found

    def estimate(self, round_index: int) -> dict[str, Any]:
        """The served policy's value by what was logged, without knowing the world."""
        logs = ServedLogs(
            decisions=f"{self.folder}/decisions",
            outcomes=OutcomeTable(path=f"{self.folder}/outcomes", left="left"),
            scorer=f"{self.folder}/first/export",
            index=round_index,
        ).read()
        weights = {"watch_10s": 1.0}
        found = greedy_estimate(logs.events, self.folder / "decisions", weights, HORIZON)
        return found | {"joined": {k: v for k, v in logs.facts.items() if k.startswith("num_")}}


def world() -> VideoFeed:
    """The truth, anew: it keeps the sessions that run."""
    return VideoFeed(num_items=NUM_ITEMS, horizon=HORIZON, history_length=LENGTH)


def killing(service: Service, num_kills: int, draw: random.Random) -> Ask:
    """Asks `service`, which is killed while it answers, early on and `num_kills` times."""
    at = iter(range(5, 5 + 40 * num_kills, 40))
    state = {"asked": 0, "next": next(at, None)}

    def ask(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if state["asked"] == state["next"]:
            service.kill_soon(draw.uniform(0.0, 0.05))
            state["next"] = next(at, None)
        state["asked"] = (state["asked"] or 0) + 1
        return service.recommend(requests)

    return ask


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives, kept in a file so that the experiment goes on after a stop."""
    if not path.is_file():
        write_json(path, make())
    return json.loads(path.read_text())


def one_seed(loop: Loop, num_rounds: int) -> list[dict[str, Any]]:
    """Each round: train, judge in truth, serve, estimate from the logs."""
    loop.folder.mkdir(parents=True, exist_ok=True)
    found = []
    for index in range(num_rounds + 1):
        parts = {"truth": loop.train_and_judge}
        if index < num_rounds:
            parts |= {"served": loop.serve, "ope": loop.estimate}
        entry = {
            name: kept(loop.folder / f"{name}_{index}.json", partial(make, index))
            for name, make in parts.items()
        }
        print(f"seed {loop.seed}, round {index}: {json.dumps(entry)}", file=sys.stderr, flush=True)
        found.append(entry)
    return found


def figures_of(seeds: Sequence[list[dict[str, Any]]]) -> dict[str, Any]:
    """Figures over seeds; those of one seed have no interval."""
    figures: dict[str, Any] = {}
    for index in range(len(seeds[0])):
        for arm in ("policy", "ranker"):
            name = "true_value" if arm == "policy" else "true_value_of_ranker"
            values = [rounds[index]["truth"][arm] for rounds in seeds]
            figures[f"{name}.round_{index}"] = over_seeds(values, unit="watches a session")
    served = [entry for rounds in seeds for entry in rounds if "served" in entry]
    covers = [_covers(entry) for entry in served]
    figures["ope_covers"] = figure(sum(covers) / len(covers), n=len(covers))
    for name in ("lost", "answered", "kills", "late", "repeated", "unknown"):
        total = sum(entry["served"][name] for entry in served)
        figures[name] = figure(total, n=len(served), unit="count")
    gains = [rounds[-1]["truth"]["policy"] - rounds[0]["truth"]["policy"] for rounds in seeds]
    figures["gain.last_round"] = over_seeds(gains, unit="watches a session")
    figures |= _verdicts(seeds)
    return figures


def _verdicts(seeds: Sequence[list[dict[str, Any]]]) -> dict[str, Any]:
    """How often the gate released what would replace a served policy, and how often wrongly."""
    pairs = [
        (later["truth"], before["truth"])
        for rounds in seeds
        for before, later in itertools.pairwise(rounds)
    ]
    released = [later["policy"] - before["policy"] for later, before in pairs if later["released"]]
    better = sum(later["policy"] > before["policy"] for later, before in pairs)
    counts = {
        "released": len(released),
        "wrongly_released": sum(gain <= 0 for gain in released),
        "better_in_truth": better,
    }
    return {name: figure(num, n=len(pairs), unit="count") for name, num in counts.items()}


def _covers(entry: dict[str, Any]) -> bool:
    ope, true_value = entry["ope"], entry["truth"]["policy"]
    return ope["low"] is not None and ope["low"] <= true_value <= ope["high"]


def main() -> None:
    """Run what is absent, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--true-sessions", type=int, default=4000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--never", type=float, default=0.05)
    parser.add_argument("--folder", type=Path, default=Path("runs/loop"))
    parser.add_argument("settings", nargs="*", help="of every run, such as training.num_env_steps=")
    given = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [
        one_seed(
            Loop(
                folder=given.folder / f"seed_{seed}",
                seed=seed,
                sizes=given.settings,
                num_sessions=given.sessions,
                num_true=given.true_sessions,
                num_kills=given.kills,
                never=given.never,
            ),
            given.rounds,
        )
        for seed in range(given.seeds)
    ]
    command = "experiments/loop/run " + " ".join(sys.argv[1:])
    write_result(HERE, command.strip(), figures_of(seeds), seeds=list(range(given.seeds)))


if __name__ == "__main__":
    main()
