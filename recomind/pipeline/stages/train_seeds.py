"""The kept round's policy again from further seeds, where `gate.seeds` asks for them.

Only the seed differs: logs, rankers, simulators and settings are those of the first policy.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from recomind.artifacts import Manifest
from recomind.errors import ConfigError
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.selection import seed_policies
from recomind.pipeline.stage import Stage
from recomind.pipeline.stages.train_policy import TrainPolicy


class TrainSeeds(TrainPolicy):
    """One further policy; `copies` are those that the config asks for."""

    name, artifact = "train-seeds", "policy_seed_2"

    def __init__(self, folder: str = artifact) -> None:
        self.folder = folder

    def copies(self, round: Round) -> Sequence[Stage]:
        """One for each seed after the first.

        Raises:
            ConfigError: the policy has an index of its own, which the others would have to share.
        """
        names = seed_policies(round)
        if names and round.config.distil.num_states:
            raise ConfigError(
                "several seeds of a policy whose index is distilled from it",
                got=f"gate.seeds={round.config.gate.seeds}, "
                f"distil.num_states={round.config.distil.num_states}",
                mend="leave one of them out",
            )
        return [TrainSeeds(name) for name in names]

    def path(self, round: Round) -> Path:
        """Beside the first policy."""
        return round.path(self.folder)

    def checkpoints(self, round: Round) -> Path:
        """Of this seed alone."""
        return round.path(f"checkpoints_{self.folder}")

    def of(self, round: Round) -> str:
        """With the name of the policy."""
        return f"{super().of(round)}_{self.folder}"

    def manifest(self, round: Round) -> Manifest:
        """With a seed of its own."""
        manifest = super().manifest(round)
        manifest.seed = round.seed(f"{TrainPolicy.name}/{self.folder}")
        return manifest

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Train; the note says which policy."""
        return f"{self.folder}, {super().build(round, manifest, line)}"

    def after(self, round: Round) -> None:
        """Drop the checkpoints, which nothing goes on from any more."""
        shutil.rmtree(self.checkpoints(round), ignore_errors=True)
