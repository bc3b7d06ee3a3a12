"""The learning curve of a training, point by point as it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recomind.artifacts import read_json, write_json
from recomind.evaluation.rollout import rollout
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.policy import QNetwork, QPolicy
from recomind.streams import draw_seeds
from recomind.types import CandidateSource, SessionEnvironment

CURVE = "learning_curve.json"
SECONDS = "seconds_{}.json"  # of "round_0"; beside TensorBoard's folders: no part of a result


class LearningCurve:
    """Greedy return in the simulator and in the world, where they are, as training goes on.

    The world's return is only looked at: nothing is chosen by it.

    Args:
        round: whose policy is trained.
        pool: what it chooses from.
        simulator: where it trains; None where it learns from logs.
        path: file of the points so far.
        line: told of each iteration.
        name: of the training among all of the run.
    """

    def __init__(
        self,
        round: Round,
        pool: CandidateSource,
        simulator: SessionEnvironment | None,
        path: Path,
        line: StageLine,
        name: str,
    ) -> None:
        self.round, self.path, self.line, self.name = round, path, line, name
        self.pool, self.simulator, self.world = pool, simulator, round.run.world
        self.seeds = draw_seeds(round.config.curve_sessions, round.generator("curve"))
        self.points: list[dict[str, Any]] = []
        self.note = ""

    def start(self, network: QNetwork) -> None:
        """The point at step 0, or the points of the training that goes on."""
        if self.path.is_file():
            self.points = read_json(self.path, "learning curve", f"remove {self.path.parent}")
        else:
            self._add(0, network)

    def __call__(self, report: dict[str, Any]) -> None:
        """One iteration of training is done."""
        steps = int(report["env_steps"])
        self._clock(steps, report["steps_per_s"])
        self.points = [p for p in self.points if p["env_steps"] < steps]
        self._add(steps, report["network"])
        self.line(
            steps,
            self.round.config.training.num_env_steps,
            f"({report['steps_per_s']:.0f} steps/s, {self.note})",
        )

    def _clock(self, steps: int, steps_per_s: float) -> None:
        """Note the seconds of training so far, this iteration's included."""
        path = self.round.run.folder / "tensorboard" / SECONDS.format(self.name)
        seconds = read_json(path, "times", "remove it") if path.is_file() else [[0, 0.0]]
        seconds = [pair for pair in seconds if pair[0] < steps]
        before, so_far = seconds[-1]
        write_json(path, [*seconds, [steps, so_far + (steps - before) / steps_per_s]])

    def _add(self, steps: int, network: QNetwork) -> None:
        simulator, world = (self._return(each, network) for each in (self.simulator, self.world))
        self.points.append(
            {
                "env_steps": steps,
                "round": self.round.index,
                "simulator_return": simulator,
                "world_return": world,
            }
        )
        named = ((simulator, "simulated"), (world, "true"))
        said = [f"{value:.2f} {name}" for value, name in named if value is not None]
        self.note = f"return {', '.join(said)}" if said else "learned from logs"
        write_json(self.path, self.points)

    def _return(self, environment: SessionEnvironment | None, network: QNetwork) -> float | None:
        if environment is None:
            return None
        with torch.no_grad():
            outcomes = rollout(environment, QPolicy(network), self.pool, self.seeds)
        return float(outcomes.reward.mean())
