"""Several runs side by side: verdict, lifts by environment, guardrails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recomind.errors import ConfigError
from recomind.evaluation.presentation import figure, interval, verdict
from recomind.evaluation.report import REPORT, read_report


@dataclass(kw_only=True, slots=True)
class Comparison:
    """A table: what was judged, and each run's figure for it."""

    runs: list[str]  # names of the folders
    rows: list[tuple[str, list[str]]]


def compare_runs(folders: Sequence[Path]) -> Comparison:
    """The reports of runs, row by row; a dash where a run has no such figure.

    Raises:
        ConfigError: fewer than two runs.
        ArtifactError: a run without a readable report.
    """
    if len(folders) < 2:
        raise ConfigError(
            "nothing to compare",
            got=f"{len(folders)} runs",
            expected="two or more folders of runs",
            mend="recomind compare runs/a runs/b",
        )
    columns = [_figures(read_report(_report_of(folder))) for folder in folders]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, [column.get(name, "-") for column in columns]) for name in names]
    return Comparison(runs=[str(folder) for folder in folders], rows=rows)


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """At the terminal; long names fold."""
    table = Table()
    for name in ("", *comparison.runs):
        table.add_column(escape(name), overflow="fold")
    for name, cells in comparison.rows:
        table.add_row(escape(name), *map(escape, cells))
    (console or Console()).print(table)


def _report_of(folder: Path) -> Path:
    inside = folder / "report" / REPORT
    return inside if inside.is_file() else folder


def _figures(report: Mapping[str, Any]) -> dict[str, str]:
    gate = report["gate"]
    target = gate.get("target_metric", "")
    found = {
        "verdict": verdict(gate),
        "seed": str(report["seed"]),
        "target": target,
        "decided by": ", ".join(gate.get("decided_by", [])) or "nothing",
    }
    for entry in report["environments"]:
        name = entry["name"]
        for arm in (report.get("baseline_arm", "ranker"), report.get("policy_arm", "policy")):
            mean = entry["arms"].get(arm, {}).get(target, {}).get("mean")
            if mean is not None:
                found[f"{name}: {arm}"] = figure(mean)
        for key in ("lift", "rl_lift"):
            if target in entry.get(key, {}):
                found[f"{name}: {key}"] = interval(entry[key][target])
    for each in gate.get("guardrails", []):
        found[f"{each['environment']}: {each['metric']}"] = each["status"]
    return found
