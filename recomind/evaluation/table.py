"""The report at the terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recomind.evaluation.config import POLICY, RANDOM, RANKER, RANKER_IN_SUPPORT
from recomind.evaluation.presentation import (
    KIND_TITLES,
    figure,
    interval,
    ordered_metrics,
    verdict,
)

_NAME_WIDTH = 21  # width of "watch_10s_per_session": names stay whole on a terminal of ...
_WIDE = 76  # ... this many columns
_NUM_COLUMNS = 4  # arms that have one each
_WHOLE = 120  # columns that hold every cell in a line


def print_report(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Arms, metrics and lifts of each environment, then the verdict and its reasons."""
    console = console or _console()
    for environment in report["environments"]:
        console.print(_environment_table(environment, report, console.width))
    gate = report["gate"]
    colour = "green" if gate["released"] else "red"
    console.print(f"[bold {colour}]{verdict(gate)}[/]")
    for reason in gate["reasons"]:
        console.print(f"  - {escape(reason)}", highlight=False)
    for warning in gate.get("warnings", []):
        console.print(f"  [yellow]! {escape(warning)}[/]", highlight=False)


def _console() -> Console:
    """A file or a pipe has no width of its own: what is written there need not be folded."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = max(console.width, _WHOLE)
    return console


def _environment_table(
    environment: Mapping[str, Any], report: Mapping[str, Any], width: int
) -> Table:
    """Metrics down, the main arms and the lifts across; long cells fold, so any width will do."""
    kind = KIND_TITLES[environment["kind"]]
    title = f"{escape(environment['name'])} ({kind}, {environment['num_sessions']:,} sessions)"
    never = environment["kind"] == "simulator"
    target = report["gate"].get("target_metric")
    arms, others = _main_arms(environment, report)
    captions = [_others(environment, others, target)] if others and target else []
    captions += ["the simulated return is never evidence"] if never else []
    table = Table(
        title=title,
        caption="\n".join(captions) or None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    whole = _NAME_WIDTH if width >= _WIDE else None
    table.add_column("mean of", overflow="fold", min_width=whole)
    for arm in arms:
        table.add_column(escape(arm), justify="right", overflow="fold")
    lifts = {name: environment[name] for name in ("lift", "rl_lift") if environment.get(name)}
    for name in lifts or ("lift",):
        table.add_column(name, justify="right", overflow="fold")
    for metric in ordered_metrics(m for arm in arms for m in environment["arms"][arm]):
        cells = [_mean(environment["arms"][arm].get(metric)) for arm in arms]
        found = [lift.get(metric) for lift in lifts.values()] or [None]
        table.add_row(
            escape(metric),
            *cells,
            *(interval(lift) if lift else "-" for lift in found),
            style="bold" if metric == target else None,
        )
    return table


def _main_arms(
    environment: Mapping[str, Any], report: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Arms with a column of their own, and those that have one figure below the table."""
    there = [arm for arm in report["arms"] if arm in environment["arms"]]
    compared = (report.get("policy_arm", POLICY), report.get("baseline_arm", RANKER))
    main = (RANDOM, RANKER_IN_SUPPORT, *compared)
    if len(there) <= _NUM_COLUMNS:
        return there, []
    return [arm for arm in there if arm in main], [arm for arm in there if arm not in main]


def _others(environment: Mapping[str, Any], arms: Sequence[str], target: str) -> str:
    means = (f"{escape(arm)} {_mean(environment['arms'][arm].get(target))}" for arm in arms)
    return f"{escape(target)} of the other arms: {', '.join(means)}"


def _mean(entry: Mapping[str, Any] | None) -> str:
    """Without its standard error: the interval of the lift says more, in less room."""
    return figure(entry["mean"]) if entry else "-"
