"""`recomind train-policy`: from the ranker's weights, in the simulator or from the logs."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from recomind.artifacts import Manifest, save_tensors, write_artifact, write_json
from recomind.pipeline.curve import CURVE, LearningCurve
from recomind.pipeline.loading import policy_config, problem
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage
from recomind.policy import PolicyConfig, QNetwork
from recomind.training.session_config import find_algorithm
from recomind.training.trainer import train_policy


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
        with write_artifact(self.path(round), manifest) as staging:
            tensors = cast(QNetwork, trained).trainable_state()
            save_tensors(staging / "policy.safetensors", tensors)
            write_json(staging / CURVE, curve.points)
        return curve.note


def _support(config: PolicyConfig) -> dict[str, str]:
    """What a checkpoint depends on and the training's own settings do not hold."""
    if not config.support_density:
        return {}
    without = {} if config.support_keeps_ranker else {"policy.support_keeps_ranker": "False"}
    return {"policy.support_density": str(config.support_density)} | without


def _from_logs(round: Round) -> bool:
    """Whether the algorithm learns from logs and opens no simulator."""
    return find_algorithm(round.config.training.algorithm).from_logs
