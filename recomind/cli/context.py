"""A run on disk: where its artifacts lie, whether one is up to date, and what is loaded from it.

runs/demo/
  run.json              the config that this folder belongs to
  round_0/sessions      ranker  index  simulator  holdout_simulator  policy  query_index  selection
          density       of the logs, where policy.support_density asks for it
  round_1/...
  report/  export/  tensorboard/
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recomind.artifacts import Manifest, is_complete, read_manifest, write_json
from recomind.cli.progress import StageLine
from recomind.config import RecomindConfig, make_world, plain
from recomind.data import SessionDataset
from recomind.errors import ArtifactError, ConfigError
from recomind.simulation import World
from recomind.streams import make_generator
from recomind.training.factories import PoolFactory

RUN_FILE = "run.json"
_NOT_IDENTITY = (
    "output",
    "round",
    "rounds",  # more may follow on those that are there
    "exit_unreleased",
    "serving",
)  # may differ between calls on one folder


class Run:
    """One run: its config and its folder."""

    def __init__(self, config: RecomindConfig) -> None:
        self.config, self.folder = config, Path(config.output)
        self._world: World | None = None

    def claim(self) -> None:
        """Make the folder, which is there, this run's, or refuse to write into another run's.

        Raises:
            ConfigError: the folder belongs to a run of another config, or is not a run's at all.
        """
        ours = _identity(plain(self.config))
        path = self.folder / RUN_FILE
        if path.is_file():
            theirs = _identity(json.loads(path.read_text()))
            if theirs != json.loads(json.dumps(ours)) and self._has_results():
                raise ConfigError(
                    "the output folder holds another run",
                    got=f"{self.folder}, which differs in {_differing(ours, theirs)}",
                    mend="choose another folder with output=..., or remove this one",
                )
            return write_json(path, ours)
        # Rounds without a run file are what stages that ran alone have left: the run goes on there.
        ours_too = re.compile(r"\..*|round_\d+|main\.log|tensorboard")
        inside = [path.name for path in self.folder.iterdir()]
        strangers = [name for name in inside if not ours_too.fullmatch(name)]
        if strangers:
            raise ConfigError(
                "the output folder holds something that is not a run",
                got=f"{self.folder} with {sorted(strangers)[:5]}",
                mend="choose another folder with output=...",
            )
        write_json(path, ours)

    def _has_results(self) -> bool:
        """Whether a stage has finished here; a first command that failed may be mended."""
        return any(self.folder.glob("round_*/*"))

    @property
    def world(self) -> World | None:
        """The world, where there is one to collect from and to evaluate in."""
        if self._world is None:
            self._world = make_world(self.config)
        return self._world

    def require_world(self, stage: str) -> World:
        """The world, for a stage that is nothing without one.

        Raises:
            ConfigError: there is none.
        """
        if self.world is None:
            raise ConfigError(f"{stage} needs a world", mend="choose one with world=...")
        return self.world

    @property
    def weights(self) -> dict[str, float]:
        """Reward and utility weights."""
        return dict(self.config.ranker.utility_weights)

    def path(self, name: str, round_index: int) -> Path:
        """Folder of a round's artifact."""
        return self.folder / f"round_{round_index}" / name

    def seed(self, stage: str, round_index: int = 0) -> int:
        """The seed of a stage: another for each stage, round and run seed."""
        text = f"{self.config.seed}/{stage}/{round_index}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

    def generator(self, stage: str, round_index: int = 0) -> Any:
        """A generator with that seed."""
        return make_generator(self.seed(stage, round_index))

    def line(self, stage: str, round_index: int) -> StageLine:
        """The progress line of a stage."""
        rounds = self.config.rounds
        return StageLine(stage if rounds == 1 else f"{stage}, round {round_index + 1} of {rounds}")

    def session_folders(self, round_index: int) -> list[Path]:
        """Sessions of all rounds up to this one."""
        return [self.path("sessions", r) for r in range(round_index + 1)]

    def dataset(self, round_index: int) -> SessionDataset:
        """Sessions of all rounds up to this one, in memory."""
        length = self.config.ranker.history_length
        return SessionDataset.load(self.session_folders(round_index), length)

    def pool_factory(self, round_index: int, index: str = "index") -> PoolFactory:
        """The pool of a round, by one of its indices."""
        return PoolFactory(
            config=self.config.candidates,
            catalogue_folder=self.path("ranker", round_index),
            index_folder=self.path(index, round_index),
        )

    @property
    def policy_index(self) -> str:
        """Name of the index that a trained policy chooses from."""
        return "query_index" if self.config.distil.num_states else "index"

    def manifest(
        self, kind: str, stage: str, round_index: int, groups: Sequence[str], inputs: Sequence[Path]
    ) -> Manifest:
        """The manifest of an artifact about to be written, from which `is_current` is judged."""
        config = plain(self.config)
        return Manifest(
            kind=kind,
            seed=self.seed(stage, round_index),
            config={group: config[group] for group in groups},
            inputs={self._name(p): read_manifest(p, verify=False).identity for p in inputs},
        )

    def _name(self, path: Path) -> str:
        inside = path.is_relative_to(self.folder)
        return path.relative_to(self.folder).as_posix() if inside else path.name


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a run's config that may not differ between calls on one folder."""
    kept = {name: value for name, value in config.items() if name not in _NOT_IDENTITY}
    if isinstance(kept.get("evaluation"), dict):
        free = ("fidelity_sessions", "fidelity_steps")  # no other artifact depends on these
        kept["evaluation"] = {k: v for k, v in kept["evaluation"].items() if k not in free}
    return kept


def is_current(folder: Path, manifest: Manifest) -> bool:
    """Whether `folder` holds what `manifest` is about to describe: kind, seed, config, inputs."""
    if not is_complete(folder):
        return False
    try:
        there = read_manifest(folder, manifest.kind)
    except ArtifactError:
        return False
    wanted = json.loads(json.dumps([manifest.seed, manifest.config, manifest.inputs]))
    return [there.seed, there.config, there.inputs] == wanted


def _differing(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    names = []
    for key in sorted(set(ours) | set(theirs)):
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            names += _differing(mine, other, f"{prefix}{key}.")
        elif mine != other:
            names.append(f"{prefix}{key}")
    return names[:6]
