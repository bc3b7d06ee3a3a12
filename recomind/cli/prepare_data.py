"""`recomind prepare-data`: raw logs to sessions and a catalogue."""

from __future__ import annotations

from pathlib import Path

from recomind.artifacts import source_identity
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
    manifest.inputs |= source_identity(_raw_files(run), full=run.config.data.full_hash)
    if is_current(folder, manifest):
        return line.skipped()
    frame, catalogue, counts = read_kuairand(run.config.data)
    tasks = ["watch_10s", "long_view", "like", "hide"]
    write_sessions(folder, frame, catalogue, tasks=tasks, manifest=manifest, extra=counts)
    line.done(f"({frame.height} events, {_counts(counts)})")


def _raw_files(run: Run) -> list[Path]:
    """What lies in the folder of the raw logs; none where there is no such folder."""
    root = Path(run.config.data.root or "absent").expanduser()
    return sorted(path for path in root.glob("*.*") if path.suffix in (".csv", ".parquet"))


def _counts(counts: dict) -> str:
    return ", ".join(f"{k.removeprefix('num_')} {v}" for k, v in counts.items() if k[:4] == "num_")
