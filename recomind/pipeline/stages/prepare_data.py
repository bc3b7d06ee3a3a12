"""`recomind prepare-data`: raw logs to sessions and a catalogue."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recomind.artifacts import Manifest, source_identity
from recomind.data import WindowedLogs, write_sessions
from recomind.pipeline.continuing import is_windowed, source_of
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage


class PrepareData(Stage):
    """The raw logs that `data.source` names.

    They are the first round's, whichever is asked for, or a window of them is each round's own.
    """

    name, kind, artifact, groups = "prepare-data", "sessions", "sessions", ("data",)

    def path(self, round: Round) -> Path:
        """The first round's sessions, or the round's own."""
        return _reader(round).path(self.artifact)

    def manifest(self, round: Round) -> Manifest:
        """It names the raw files as they are now, or what the round's window of them holds."""
        manifest, source = super().manifest(_reader(round)), source_of(round)
        if isinstance(source, WindowedLogs):
            manifest.inputs |= source.identity()
        else:
            full = bool(round.config.data.get("full_hash", False))
            manifest.inputs |= source_identity(source.files(), full=full)
        return manifest

    def inputs(self, round: Round) -> list[Path]:
        """No artifact: raw files are not ours."""
        return []

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Read, cut into sessions, write.

        What a killed process spilled goes first: nobody else writes into the run's folder.
        """
        shutil.rmtree(round.run.spill, ignore_errors=True)
        try:
            return self._build(round, manifest, line)
        finally:
            shutil.rmtree(round.run.spill, ignore_errors=True)

    def _build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        logs = source_of(round).read()
        write_sessions(
            self.path(round),
            logs.frame,
            logs.catalogue,
            tasks=logs.tasks,
            manifest=manifest,
            extra=logs.facts,
            tables=logs.tables,
        )
        for note in [*logs.notes, *_on_sample(round, manifest.extra["num_events"])]:
            line.remark(note)
        return f"{manifest.extra['num_events']} events, {_counts(logs.facts)}"


def _on_sample(round: Round, num_events: int) -> list[str]:
    most = int(round.config.data.get("sample_events") or 0)
    if not most or num_events <= most:
        return []
    return [
        f"train-ranker learns from all {num_events} events, later stages from those of a random "
        f"{most / num_events:.1%} of the users (data.sample_events)"
    ]


def _reader(round: Round) -> Round:
    """The round whose sessions the logs are."""
    return round if is_windowed(round) else round.run.round(0)


def _counts(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{k.removeprefix('num_')} {v}" for k, v in facts.items() if k[:4] == "num_")
