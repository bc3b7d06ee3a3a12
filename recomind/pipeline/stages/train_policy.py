"""`recomind train-policy`: from the ranker's weights, in the simulator or from the logs.

Training may make a policy worse than the one that it began with, even in the simulator that it
trained in; of 28 such runs with a known truth, all five whose policy lost there lost in truth as
well (docs/adr/0020). So a policy that does not beat step 0 in its own simulator is left at step 0:
it then is the ranker in its support.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from recomind.artifacts import Manifest, save_tensors, write_artifact, write_json
from recomind.evaluation.rollout import rollout
from recomind.pipeline.curve import CURVE, LearningCurve
from recomind.pipeline.loading import policy_config, problem
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage
from recomind.policy import PolicyConfig, QNetwork, QPolicy
from recomind.streams import draw_seeds
from recomind.training.config import TrainingConfig
from recomind.training.session_config import find_algorithm
from recomind.training.trainer import train_policy
from recomind.types import CandidateSource, SessionEnvironment


class TrainPolicy(Stage):
    """The round's policy; goes on from its newest checkpoint after a stop."""

    name, kind, artifact = "train-policy", "policy", "policy"
    groups = ("policy", "training", "candidates", "ranker")

    def inputs(self, round: Round) -> list[Path]:
        """What it begins from, where it trains, what it chooses from, and what the logs cover.

        The network reads the effects of items from the simulator's folder, whatever trains it.
        """
        density = round.paths("density") if round.config.policy.support_density else []
        logs = round.session_folders if _from_logs(round) else []
        return round.paths("ranker", "simulator", "index") + density + logs

    def checkpoints(self, round: Round) -> Path:
        """Folder from which a training that was stopped goes on."""
        return round.path("checkpoints")

    def of(self, round: Round) -> str:
        """Name of the training among all of the run."""
        return f"round_{round.index}"

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Train, with a learning curve."""
        trained_on, checkpoints = problem(round, self.path(round).name), self.checkpoints(round)
        simulator = None if _from_logs(round) else trained_on.environment()
        pool, name = trained_on.candidates(), self.of(round)
        curve = LearningCurve(round, pool, simulator, checkpoints / CURVE, line, name)
        curve.start(cast(QNetwork, trained_on.network()))
        trained = train_policy(
            trained_on,
            round.config.training,
            seed=manifest.seed,
            checkpoint_dir=checkpoints,
            on_iteration=curve,
            tensorboard_dir=round.run.folder / "tensorboard" / name,
            inputs=manifest.inputs | _support(policy_config(round)),
        )
        kept = cast(QNetwork, trained)
        note = curve.note
        if simulator is not None and _compares(round.config.training):
            at_start = cast(QNetwork, trained_on.network())
            gain = _gain(round, simulator, pool, kept, at_start)
            manifest.extra |= {"simulated_gain": gain, "left_at_step_0": gain <= 0.0}
            if gain <= 0.0:
                kept = at_start
                note += f"; {gain:+.2f} in the simulator by training: left at step 0"
        with write_artifact(self.path(round), manifest) as staging:
            save_tensors(staging / "policy.safetensors", kept.trainable_state())
            write_json(staging / CURVE, curve.points)
        return note


def _compares(config: TrainingConfig) -> bool:
    return config.num_env_steps > 0 and config.compare_sessions > 0


def _gain(
    round: Round,
    simulator: SessionEnvironment,
    pool: CandidateSource,
    trained: QNetwork,
    at_start: QNetwork,
) -> float:
    """Reward a session that training won in the simulator, over the same sessions."""
    seeds = draw_seeds(round.config.training.compare_sessions, round.generator("compare"))
    with torch.no_grad():
        after, before = (
            rollout(simulator, QPolicy(network), pool, seeds).reward.double().mean()
            for network in (trained, at_start)
        )
    return float(after - before)


def _support(config: PolicyConfig) -> dict[str, str]:
    """What a checkpoint depends on and the training's own settings do not hold."""
    if not config.support_density:
        return {}
    without = {} if config.support_keeps_ranker else {"policy.support_keeps_ranker": "False"}
    return {"policy.support_density": str(config.support_density)} | without


def _from_logs(round: Round) -> bool:
    """Whether the algorithm learns from logs and opens no simulator."""
    return find_algorithm(round.config.training.algorithm).from_logs
