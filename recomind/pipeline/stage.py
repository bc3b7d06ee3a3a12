"""What a stage says of itself, and the one driver that completes it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from recomind.artifacts import Manifest, is_complete, read_manifest
from recomind.errors import ArtifactError
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.run_file import with_later_settings


class Stage(ABC):
    """One artifact of a round: what it depends on, and how it is made."""

    name: ClassVar[str]  # on the progress line, and in the seed
    kind: ClassVar[str]  # kind of the artifact
    artifact: ClassVar[str]  # name of its folder, unless `path` says another
    groups: ClassVar[tuple[str, ...]] = ()  # config groups: when one changes, the stage runs again

    @abstractmethod
    def inputs(self, round: Round) -> list[Path]:
        """Artifacts that are read: when one changes, the stage runs again."""

    @abstractmethod
    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Write the artifact to `path(round)` with `manifest`; returns a note on what came out."""

    def after(self, round: Round) -> None:
        """Called once the artifact is there, built or kept."""
        del round  # most stages have nothing more to do

    def copies(self, round: Round) -> Sequence[Stage]:
        """The stages to complete in its place: itself, unless it makes several artifacts."""
        del round
        return [self]

    def wanted(self, round: Round) -> bool:
        """Whether the config asks for the artifact."""
        return True

    def path(self, round: Round) -> Path:
        """Folder of the artifact."""
        return round.path(self.artifact)

    def manifest(self, round: Round) -> Manifest:
        """What the artifact will say of itself; it is current when it says so already."""
        return round.manifest(self.kind, round.seed(self.name), self.groups, self.inputs(round))


def complete(stage: Stage, round: Round, *, quiet: bool = False) -> None:
    """Make the stage's artifact, unless the config does not want it or it is there and current.

    Args:
        stage: what is to be made.
        round: of which round.
        quiet: say nothing where the artifact is kept.
    """
    if not stage.wanted(round):
        return
    folder, manifest, line = stage.path(round), stage.manifest(round), round.line(stage.name)
    if is_current(folder, manifest):
        stage.after(round)
        if not quiet:
            line.skipped()
        return
    note = stage.build(round, manifest, line)
    assert _matches(read_manifest(folder, verify=False), manifest), f"{stage.name} wrote elsewhere"
    stage.after(round)
    line.done(f"({note})" if note else "")


def is_current(folder: Path, manifest: Manifest) -> bool:
    """Whether `folder` holds what `manifest` is about to describe: kind, seed, config, inputs."""
    if not is_complete(folder):
        return False
    try:
        return _matches(read_manifest(folder, manifest.kind), manifest)
    except ArtifactError:
        return False


def _matches(there: Manifest, manifest: Manifest) -> bool:
    wanted = json.loads(json.dumps([manifest.seed, manifest.config, manifest.inputs]))
    config = with_later_settings(there.config, wanted[1])
    return [there.seed, config, there.inputs] == wanted
