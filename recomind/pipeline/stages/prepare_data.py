"""`recomind prepare-data`: raw logs to sessions and a catalogue."""

from __future__ import annotations

from pathlib import Path

from recomind.artifacts import Manifest
from recomind.data import DataSource, read_kuairand, write_sessions
from recomind.errors import ConfigError
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage

_TASKS = ["watch_10s", "long_view", "like", "hide"]


class PrepareData(Stage):
    """The raw logs that `data.source` names; they are the first round's, whichever is asked for."""

    name, kind, artifact, groups = "prepare-data", "sessions", "sessions", ("data",)

    def path(self, round: Round) -> Path:
        """The first round's sessions."""
        return round.first.path(self.artifact)

    def manifest(self, round: Round) -> Manifest:
        """The first round's."""
        return super().manifest(round.first)

    def inputs(self, round: Round) -> list[Path]:
        """No artifact.

        Raises:
            ConfigError: the sessions come from a world.
        """
        source = round.config.data.source
        if source is not DataSource.kuairand:
            raise ConfigError(
                "prepare-data reads raw logs",
                got=f"data.source={source.value}",
                mend="use data=kuairand data.root=..., or collect-logs for a world",
            )
        return []

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Read, cut into sessions, write."""
        frame, catalogue, counts = read_kuairand(round.config.data)
        folder = self.path(round)
        write_sessions(folder, frame, catalogue, tasks=_TASKS, manifest=manifest, extra=counts)
        return f"{frame.height} events, {_counts(counts)}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{k.removeprefix('num_')} {v}" for k, v in counts.items() if k[:4] == "num_")
