"""`recomind train-policy`: from the ranker's weights, in the simulator, with RLlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch

from recomind.artifacts import read_json, save_tensors, write_artifact, write_json
from recomind.cli.collect_logs import network_factory
from recomind.cli.context import Run, is_current
from recomind.cli.fit_density import run_density
from recomind.cli.progress import StageLine
from recomind.evaluation.rollout import rollout
from recomind.policy import QNetwork, QPolicy
from recomind.simulation import BatchedSessions
from recomind.streams import draw_seeds
from recomind.training.factories import MembersFactory, SimulatorFactory
from recomind.training.problem import SessionProblem
from recomind.training.trainer import train_policy
from recomind.types import CandidateSource

CURVE = "learning_curve.json"
SECONDS = "seconds_round_{}.json"  # beside TensorBoard's folders: no part of a result


def run(run: Run, round_index: int) -> None:
    """Train one round's policy; goes on from its newest checkpoint after a stop."""
    folder, tau = run.path("policy", round_index), run.config.policy.support_density
    inputs = [run.path(n, round_index) for n in ("ranker", "simulator", "index")]
    inputs += run_density(run, round_index)
    groups = ["policy", "training", "candidates", "ranker"]
    manifest = run.manifest("policy", "train-policy", round_index, groups, inputs)
    line = run.line("train-policy", round_index)
    if is_current(folder, manifest):
        return line.skipped()
    problem = SessionProblem(
        environment=SimulatorFactory(
            simulator_folder=inputs[1], ranker_folder=inputs[0], reward_weights=run.weights
        ),
        candidates=run.pool_factory(round_index),
        network=network_factory(run, round_index),
        members=MembersFactory(ranker_folder=inputs[0], reward_weights=run.weights),
    )
    curve = _Curve(run, problem, round_index, run.path("checkpoints", round_index), line)
    curve.start(cast(QNetwork, problem.network()))
    trained = train_policy(
        problem,
        run.config.training,
        seed=manifest.seed,
        checkpoint_dir=run.path("checkpoints", round_index),
        on_iteration=curve,
        tensorboard_dir=run.folder / "tensorboard" / f"round_{round_index}",
        # Of what a checkpoint was trained with, the training's own settings do not say this.
        inputs=manifest.inputs | ({"policy.support_density": str(tau)} if tau else {}),
    )
    with write_artifact(folder, manifest) as staging:
        tensors = cast(QNetwork, trained).trainable_state()
        save_tensors(staging / "policy.safetensors", tensors)
        write_json(staging / CURVE, curve.points)
    line.done(curve.note)


class _Curve:
    """Greedy return in the simulator and, where there is one, in the world, as training goes on.

    The world's return is only looked at: nothing is chosen by it.
    """

    def __init__(
        self, run: Run, problem: SessionProblem, round_index: int, folder: Path, line: StageLine
    ) -> None:
        self.run, self.round_index, self.line = run, round_index, line
        self.path = folder / CURVE
        self.pool: CandidateSource = problem.candidates()
        self.simulator: BatchedSessions = problem.environment()
        self.world = run.world
        self.seeds = draw_seeds(run.config.curve_sessions, run.generator("curve", round_index))
        self.points: list[dict[str, Any]] = []
        self.note = ""

    def start(self, network: QNetwork) -> None:
        """The point at step 0, or the points of the run that is being continued."""
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
            self.run.config.training.num_env_steps,
            f"({report['steps_per_s']:.0f} steps/s, {self.note})",
        )

    def _clock(self, steps: int, steps_per_s: float) -> None:
        """Note the seconds of training so far, this iteration's included."""
        path = self.run.folder / "tensorboard" / SECONDS.format(self.round_index)
        seconds = read_json(path, "times", "remove it") if path.is_file() else [[0, 0.0]]
        seconds = [pair for pair in seconds if pair[0] < steps]
        before, so_far = seconds[-1]
        write_json(path, [*seconds, [steps, so_far + (steps - before) / steps_per_s]])

    def _add(self, steps: int, network: QNetwork) -> None:
        simulator = self._return(self.simulator, network)
        world = None if self.world is None else self._return(self.world, network)
        self.points.append(
            {
                "env_steps": steps,
                "round": self.round_index,
                "simulator_return": simulator,
                "world_return": world,
            }
        )
        self.note = f"return {simulator:.2f} simulated" + (
            "" if world is None else f", {world:.2f} true"
        )
        write_json(self.path, self.points)

    def _return(self, environment: BatchedSessions, network: QNetwork) -> float:
        with torch.no_grad():
            outcomes = rollout(environment, QPolicy(network), self.pool, self.seeds)
        return float(outcomes.reward.mean())
