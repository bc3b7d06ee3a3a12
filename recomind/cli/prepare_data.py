"""`recomind prepare-data`: raw logs to sessions and a catalogue."""

from __future__ import annotations

from recomind.cli.context import Run, is_current
from recomind.data import files_identity, make_source, write_sessions


def run(run: Run, round_index: int) -> None:
    """Read the raw logs that `data.source` names."""
    source = make_source(run.config.data, run.config.allowed_targets)
    line, folder = run.line("prepare-data", round_index), run.path("sessions", 0)
    manifest = run.manifest("sessions", "prepare-data", 0, ["data"], [])
    manifest.inputs["raw files"] = files_identity(source.files())
    if is_current(folder, manifest):
        return line.skipped()
    logs = source.read()
    write_sessions(
        folder,
        logs.frame,
        logs.catalogue,
        tasks=logs.tasks,
        manifest=manifest,
        extra=logs.facts,
        tables=logs.tables,
    )
    line.done(f"({logs.frame.height} events, {_counts(logs.facts)})")
    for note in logs.notes:
        print(f"  {note}")


def _counts(counts: dict) -> str:
    return ", ".join(f"{k.removeprefix('num_')} {v}" for k, v in counts.items() if k[:4] == "num_")
