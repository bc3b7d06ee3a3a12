"""A run on disk, and each of its rounds: folders, seeds, logs.

runs/demo/
  run.json              the config that this folder belongs to
  round_0/sessions      ranker  index  simulator  holdout_simulator  policy  query_index  selection
          density       of the logs, where policy.support_density asks for it
          policy_seed_2 ...  of the kept round, where gate.seeds asks for them
  round_1/...
  report/  export/  tensorboard/
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from recomind.artifacts import Manifest, is_complete, read_manifest
from recomind.config import RecomindConfig, make_world, plain, reward_weights
from recomind.data import SessionDataset
from recomind.devices import find_device, require_precision
from recomind.errors import ConfigError
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run_file import claim, read_config
from recomind.simulation import World
from recomind.streams import make_generator

_OF_POLICY = re.compile(r"round_(\d+)/policy")  # input of an export


class Run:
    """One run: its config and its folder."""

    def __init__(self, config: RecomindConfig) -> None:
        self.config, self.folder = config, Path(config.output)

    def claim(self) -> None:
        """Claim the existing folder; raise if another run owns it (see `run_file.claim`)."""
        claim(self.folder, self.config)

    @cached_property
    def device(self) -> torch.device:
        """Where rankers and towers are trained.

        Raises:
            ConfigError: it is not there, or the ranker's precision is none that it has.
        """
        device = find_device(self.config.device)
        require_precision(self.config.ranker.precision, device)
        return device

    @cached_property
    def world(self) -> World | None:
        """The world to collect from and to evaluate in, None where there is none."""
        return make_world(self.config)

    def require_world(self, stage: str) -> World:
        """The world, for a stage that cannot do without.

        Raises:
            ConfigError: there is none.
        """
        if self.world is None:
            raise ConfigError(f"{stage} needs a world", mend="choose one with world=...")
        return self.world

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the tasks in the ranker's utility, which policies begin with."""
        return dict(self.config.ranker.utility_weights)

    @property
    def reward_weights(self) -> dict[str, float]:
        """Weights of the tasks in the reward: what environments give, and policies learn."""
        return dict(reward_weights(self.config))

    @property
    def spill(self) -> Path:
        """Folder for what memory cannot hold while logs are read; not there otherwise."""
        return self.folder / "spill"

    @property
    def policy_index(self) -> str:
        """Name of the index that a trained policy chooses from."""
        return "query_index" if self.config.distil.num_states else "index"

    def round(self, index: int) -> Round:
        """One round of collect, refit, retrain; from 0."""
        return Round(self, index)

    @property
    def rounds(self) -> list[Round]:
        """The rounds that the config asks for."""
        return [Round(self, index) for index in range(self.config.rounds)]

    @cached_property
    def continued(self) -> Run | None:
        """The finished run that this one continues, None where it begins by itself.

        Raises:
            ArtifactError: `continue_from` is no run.
        """
        folder = self.config.continue_from
        if not folder:
            return None
        return Run(read_config(Path(folder), self.config.allowed_targets))

    @cached_property
    def before(self) -> list[Round]:
        """All rounds of the runs that this one continues, the oldest first."""
        return [] if self.continued is None else self.continued.rounds[-1].so_far

    @property
    def exported(self) -> Round | None:
        """The round whose policy lies in `export/`, None where none does."""
        folder = self.folder / "export"
        inputs = read_manifest(folder, verify=False).inputs if is_complete(folder) else {}
        found = [_OF_POLICY.fullmatch(name) for name in inputs]
        indices = [int(match[1]) for match in found if match]
        return self.round(indices[0]) if indices else None

    def name_of(self, path: Path) -> str:
        """What an artifact is called among the inputs of another, without the run's folder."""
        if path.is_relative_to(self.folder):
            return path.relative_to(self.folder).as_posix()
        if self.continued is not None and any(
            path.is_relative_to(each.run.folder) for each in self.before
        ):
            return f"continued/{self.continued.name_of(path)}"
        return path.name

    def seed(self, stage: str) -> int:
        """The seed of a stage that is the same in every round."""
        return self.round(0).seed(stage)

    def generator(self, stage: str) -> torch.Generator:
        """A generator with that seed."""
        return make_generator(self.seed(stage))


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a run."""

    run: Run
    index: int  # from 0

    @property
    def config(self) -> RecomindConfig:
        """The run's config."""
        return self.run.config

    @property
    def first(self) -> Round:
        """The first round of all, in the run that this one continues if there is one."""
        return self.so_far[0]

    @property
    def is_first(self) -> bool:
        """Whether no round comes before."""
        return self.index == 0 and self.run.continued is None

    @property
    def previous(self) -> Round:
        """The round before; not to be asked of the first one.

        Before a run's own first round that is the one whose policy the continued run exported.
        """
        assert not self.is_first
        if self.index:
            return self.run.round(self.index - 1)
        assert self.run.continued is not None
        return self.run.continued.exported or self.run.before[-1]

    @property
    def so_far(self) -> list[Round]:
        """All rounds up to this one, with those of the runs that this one continues."""
        return [*self.run.before, *self.own_so_far]

    @property
    def own_so_far(self) -> list[Round]:
        """The run's own rounds up to this one."""
        return [self.run.round(index) for index in range(self.index + 1)]

    def path(self, name: str) -> Path:
        """Folder of one of the round's artifacts."""
        return self.run.folder / f"round_{self.index}" / name

    def paths(self, *names: str) -> list[Path]:
        """Folders of several of the round's artifacts."""
        return [self.path(name) for name in names]

    def seed(self, stage: str) -> int:
        """The seed of a stage: another for each stage, round and run seed."""
        text = f"{self.config.seed}/{stage}/{len(self.run.before) + self.index}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

    def generator(self, stage: str) -> torch.Generator:
        """A generator with that seed."""
        return make_generator(self.seed(stage))

    def line(self, stage: str) -> StageLine:
        """The progress line of a stage."""
        rounds = self.config.rounds
        return StageLine(stage if rounds == 1 else f"{stage}, round {self.index + 1} of {rounds}")

    @property
    def session_folders(self) -> list[Path]:
        """Sessions of all rounds up to this one."""
        return [each.path("sessions") for each in self.so_far]

    def dataset(self) -> SessionDataset:
        """Sessions of all rounds up to this one, in memory; of some users where they are many."""
        return self._load(self.session_folders)

    def own_dataset(self) -> SessionDataset:
        """The round's own sessions alone."""
        return self._load([self.path("sessions")])

    def _load(self, folders: Sequence[Path]) -> SessionDataset:
        most = int(self.config.data.get("sample_events") or 0)
        return SessionDataset.load(folders, self.config.ranker.history_length, most)

    def manifest(
        self, kind: str, seed: int, groups: Sequence[str], inputs: Sequence[Path]
    ) -> Manifest:
        """The manifest of an artifact about to be written, with the config of the named groups."""
        config: dict[str, Any] = plain(self.config)
        return Manifest(
            kind=kind,
            seed=seed,
            config={group: config[group] for group in groups},
            inputs={self.run.name_of(p): read_manifest(p, verify=False).identity for p in inputs},
        )
