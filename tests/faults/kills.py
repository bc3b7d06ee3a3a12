"""Kills at random moments of a training run, and what becomes of it.

As a program, so that every scenario has a Ray of its own:

    python -m tests.faults.kills runner --kills 2 --seed 0 --folder /tmp/here

prints one line of JSON: `kills` that hit, `lost` of them (0 is right), `seconds`, and what is known
of the run. Kinds: runner, learner, node, driver.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from recomind.training.target import trainable
from recomind.training.trainer import train_policy
from tests.faults.processes import actors, kill
from tests.preloaded.launching import Started, start
from tests.training.tiny import PROBLEM, settings

RUNNER, LEARNER = "SessionRunner", "_WrappedExecutable"  # as Ray titles their processes
KINDS = ("runner", "learner", "node", "driver")
PATIENCE_S = 240.0  # for a process to be there again; machines are busy at times
_MANY = 10**9
_DRIVER_STEPS = 6000


class EndedError(Exception):
    """All kills are done and survived: the rest of the run has nothing to show."""


class Watch:
    """Follows the reports of a run while a thread kills its processes."""

    def __init__(self, num_kills: int, strike: Callable[[random.Random], None], seed: int) -> None:
        self.reports: list[dict[str, Any]] = []
        self.kills, self._num_kills, self._strike = 0, num_kills, strike
        self._random, self._error = random.Random(seed), ""
        self._last = 0  # iterations that were done at the last kill
        self._thread = threading.Thread(target=self._kill, daemon=True)

    def __call__(self, report: dict[str, Any]) -> None:
        """One iteration is done."""
        finite = all(bool(t.isfinite().all()) for t in trainable(report.pop("network")).values())
        self.reports.append(report | {"finite": finite})
        if len(self.reports) == 1:
            self._thread.start()
        over = self.kills == self._num_kills and len(self.reports) >= self._last + 3
        if over or self._error:
            raise EndedError(self._error)

    def _kill(self) -> None:
        try:
            for _ in range(self._num_kills):
                self._wait(lambda: len(self.reports) >= self._last + 2)
                time.sleep(self._random.uniform(0.0, 2.0))
                self._strike(self._random)
                self.kills, self._last = self.kills + 1, len(self.reports)
        except TimeoutError:
            self._error = f"no iteration in {PATIENCE_S:.0f} s after kill {self.kills}"

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.05)

    def verdict(self) -> dict[str, Any]:
        """What the run came to."""
        steps = [report["env_steps"] for report in self.reports]
        last = self.reports[-1]
        whole = last["finite"] and math.isfinite(last["loss"]) and not self._error
        went_on = all(b > a for a, b in zip(steps[-3:-1], steps[-2:], strict=True))
        survived = self.kills if whole and went_on else max(0, self.kills - 1)
        return {
            "kills": self.kills,
            "lost": self._num_kills - survived,
            "restarts": last["faults"],
            "behind_updates": max(report["weights_behind_updates"] for report in self.reports),
            "iterations": len(self.reports),
            "error": self._error,
        }


def strike_actor(kind: str) -> Callable[[random.Random], None]:
    """Kills one of the processes of a class."""

    def strike(draws: random.Random) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := actors(kind)):
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.1)
        kill(draws.choice(sorted(found)))

    return strike


def watched(watch: Watch, folder: Path, **changes: Any) -> dict[str, Any]:
    """Train under `watch` until it has seen enough."""
    small: dict[str, Any] = {"num_env_steps": _MANY, "restart_runners": True}
    with contextlib.suppress(EndedError):
        train_policy(
            PROBLEM,
            settings(**(small | changes)),
            seed=0,
            checkpoint_dir=folder / "checkpoints",
            on_iteration=watch,
        )
    return watch.verdict()


def runner(num_kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """One of two runners dies; the other goes on until it is back."""
    return watched(Watch(num_kills, strike_actor(RUNNER), seed), folder, num_runners=2)


def learner(num_kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """One of two learners dies; the run begins again at the last checkpoint."""
    return watched(Watch(num_kills, strike_actor(LEARNER), seed), folder, num_learners=2)


def node(num_kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """One of two nodes beside the head dies with all that runs on it; another joins later."""
    # A head writes its address where every other Ray of this machine would find it.
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray")  # short: it holds sockets
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)

    def strike(draws: random.Random) -> None:
        nodes = sorted(cluster.worker_nodes, key=lambda n: n.unique_id)
        cluster.remove_node(draws.choice(nodes), allow_graceful=False)
        cluster._shutdown_at_exit = False  # else it sets a signal's handler, which no thread may
        cluster.add_node(num_cpus=2)

    try:
        watch = Watch(num_kills, strike, seed)
        return watched(watch, folder, num_runners=2, num_learners=1)
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(os.environ["RAY_TMPDIR"], ignore_errors=True)


def driver(num_kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """The whole program dies, again and again; what it ends with equals an undisturbed run's."""
    draws = random.Random(seed)
    whole = _end(folder / "whole")
    kills = lost = runs = 0
    while kills < num_kills:
        runs += 1
        here = folder / f"run_{runs}"
        while kills < num_kills and _killed(here, draws):
            kills += 1
        lost += _end(here) != whole
    return {"kills": kills, "lost": lost, "runs": runs}


def _program(folder: Path) -> Started:
    return start(["-m", "tests.faults.kills", "train", "--folder", str(folder)])


def _end(folder: Path) -> str:
    """Let the program come to its end; what it printed are its weights."""
    done = _program(folder).ended(PATIENCE_S)
    return done.stdout if done.returncode == 0 else f"exit status {done.returncode} of {folder}"


def _killed(folder: Path, draws: random.Random) -> bool:
    """Whether the program was still running when its time had come."""
    before = len(list(folder.glob("iteration-*/manifest.json")))
    newest = max((p.name for p in folder.glob("iteration-*")), default="")
    program = _program(folder)
    deadline = time.monotonic() + PATIENCE_S
    while program.process.poll() is None and time.monotonic() < deadline:
        paths = list(folder.glob("iteration-*/manifest.json"))
        if len(paths) > before or max((p.parent.name for p in paths), default="") > newest:
            break
        time.sleep(0.01)
    time.sleep(draws.uniform(0.0, 1.0))
    hit = program.process.poll() is None
    program.kill()
    program.ended(PATIENCE_S)
    return hit


def train(folder: Path) -> None:
    """The program that `driver` kills: local runner and learner, one thread."""
    torch.set_num_threads(1)
    network = train_policy(
        PROBLEM,
        settings(num_env_steps=_DRIVER_STEPS, steps_per_iteration=250),
        seed=3,
        checkpoint_dir=folder,
        on_iteration=lambda report: None,
    )
    weights = {name: tensor.tolist() for name, tensor in trainable(network).items()}
    print(json.dumps(weights))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=[*KINDS, "train"])
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    if given.kind == "train":
        return train(given.folder)
    torch.set_num_threads(1)
    scenario = {"runner": runner, "learner": learner, "node": node, "driver": driver}[given.kind]
    began = time.monotonic()
    outcome = scenario(given.kills, given.seed, given.folder)
    print(json.dumps(outcome | {"seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main()
