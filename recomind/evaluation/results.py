"""One table over many runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recomind.errors import ArtifactError, SchemaError
from recomind.evaluation.presentation import interval
from recomind.evaluation.report import REPORT, read_report


@dataclass(kw_only=True, slots=True)
class ResultRow:
    """What one run came to."""

    run: str  # the run's folder, relative to the root that was searched
    seed: int
    released: bool
    target_metric: str
    lifts: dict[str, dict[str, Any]] = field(default_factory=dict)  # environment -> target's lift


def collect_results(root: Path) -> list[ResultRow]:
    """A row for every `report/report.json` below `root`, by name of the run.

    Raises:
        ArtifactError: `root` is no folder, holds no report, or one that cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise ArtifactError("no folder of runs here", got=root, mend="give the folder of the runs")
    paths = sorted(root.rglob(f"report/{REPORT}"))
    # A folder that starts with a dot is an artifact in the making, or one being replaced.
    paths = [p for p in paths if not any(x.startswith(".") for x in p.relative_to(root).parts)]
    if not paths:
        raise ArtifactError(
            f"no report/{REPORT} below {root}", mend="run `recomind evaluate`, or look elsewhere"
        )
    return [_row(root, path) for path in paths]


def print_results(rows: Sequence[ResultRow], console: Console | None = None) -> None:
    """Run, seed, verdict and the target's lift in each environment."""
    console = console or Console()
    targets = sorted({row.target_metric for row in rows})
    table = Table(title=f"lift of {escape(', '.join(targets))}", title_justify="left")
    table.add_column("run", overflow="fold")
    table.add_column("seed", justify="right", overflow="fold")
    table.add_column("released", overflow="fold")
    names = list(dict.fromkeys(name for row in rows for name in row.lifts))
    for name in names:
        table.add_column(escape(name), justify="right", overflow="fold")
    for row in rows:
        cells = [interval(row.lifts[name]) if name in row.lifts else "-" for name in names]
        said = "[green]yes[/]" if row.released else "[red]no[/]"
        table.add_row(escape(row.run), str(row.seed), said, *cells)
    console.print(table)


def _row(root: Path, path: Path) -> ResultRow:
    try:
        report = read_report(path)
    except SchemaError as error:
        raise ArtifactError("unreadable report", got=f"{path}: {error}") from error
    run = path.parent.parent
    target = report["gate"].get("target_metric", "watch_10s_per_session")
    return ResultRow(
        run=run.name if run == root else run.relative_to(root).as_posix(),
        seed=report["seed"],
        released=report["gate"]["released"],
        target_metric=target,
        lifts={e["name"]: e["lift"][target] for e in report["environments"] if target in e["lift"]},
    )
