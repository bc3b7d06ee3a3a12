"""`recomind prepare-data`: raw logs to sessions and a catalogue."""

from __future__ import annotations

from recomind.cli.context import Run, is_current
from recomind.data import DataSource, read_kuairand, write_sessions
from recomind.errors import ConfigError


def run(run: Run, round_index: int) -> None:
    """Read the raw logs that `data.source` names."""
    if run.config.data.source is not DataSource.kuairand:
        raise ConfigError(
            "prepare-data reads raw logs",
            got=f"data.source={run.config.data.source.value}",
            mend="use data=kuairand data.root=..., or collect-logs for a world",
        )
    line, folder = run.line("prepare-data", round_index), run.path("sessions", 0)
    manifest = run.manifest("sessions", "prepare-data", 0, ["data"], [])
    if is_current(folder, manifest):
        return line.skipped()
    frame, catalogue, counts = read_kuairand(run.config.data)
    tasks = ["watch_10s", "long_view", "like", "hide"]
    write_sessions(folder, frame, catalogue, tasks=tasks, manifest=manifest, extra=counts)
    line.done(f"({frame.height} events, {_counts(counts)})")


def _counts(counts: dict) -> str:
    return ", ".join(f"{k.removeprefix('num_')} {v}" for k, v in counts.items() if k[:4] == "num_")
