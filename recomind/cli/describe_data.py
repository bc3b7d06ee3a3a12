"""`recomind describe-data`: what is in raw logs, as tables on the terminal and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from recomind.data import make_source
from recomind.data.describe import Description, describe
from recomind.evaluation.markup import table as markup_table
from recomind.evaluation.page_style import STYLE
from recomind.evaluation.svg import Series, line_chart
from recomind.pipeline import Round


def run(round: Round) -> None:
    """Read the logs, and say what is in them."""
    report(round.config.data, round.config.allowed_targets, round.run.folder)


def report(data: Mapping[str, Any], allowed: list[str], folder: Path) -> None:
    """Describe the logs that `data` names; write the page beside the run's `folder`.

    It tells of logs, and not of the run, which may begin anew or never.
    """
    found = describe(make_source(data, allowed).read())
    console = Console(width=100, highlight=False)
    console.print(_facts(found))
    for title, rows in found.tables.items():
        console.print(_table(title, rows))
    for note in found.notes:
        console.print(note, markup=False)
    for suspicion in found.suspicions:
        console.print(f"suspicious: {suspicion.what}; to mend: {suspicion.mend}", markup=False)
    path = folder.with_name(f"{folder.name}-data.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(found))
    console.print(f"page: {path}", markup=False, soft_wrap=True)


def _facts(found: Description) -> Table:
    table = Table(show_header=False, title="the logs", title_justify="left")
    for name, value in found.facts.items():
        table.add_row(name, value)
    return table


def _table(title: str, rows: pl.DataFrame) -> Table:
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(rows.columns):
        # The first column is never cut: half a day says nothing.
        table.add_column(name, no_wrap=place == 0, overflow="fold")
    for row in rows.iter_rows():
        table.add_row(*map(_cell, row))
    return table


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def page(found: Description) -> str:
    """One HTML page, without anything from elsewhere."""
    suspicions = "".join(
        f"<li>{escape(s.what)}<br><span class='note'>{escape(s.mend)}</span></li>"
        for s in found.suspicions
    )
    facts = markup_table(
        ("", ""), [(name, [escape(value)], "") for name, value in found.facts.items()]
    )
    survival = Series(name="sessions", points=found.survival, style="arm-0")
    parts = [
        f"<div class='card'>{facts}</div>",
        *(f"<p>{escape(note)}</p>" for note in found.notes),
        f"<h2>Suspicions</h2><div class='card'><ul>{suspicions or '<li>none</li>'}</ul></div>",
        "<h2>Sessions that reach a position</h2><div class='card'>"
        + line_chart([survival], title="survival", x_label="position", y_label="share")
        + "</div>",
    ]
    for title, rows in found.tables.items():
        cells = [(str(r[0]), [escape(_cell(v)) for v in r[1:]], "") for r in rows.iter_rows()]
        parts.append(f"<h2>{escape(title)}</h2>{markup_table(rows.columns, cells)}")
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>data</title>"
        f"<style>{STYLE}</style></head><body><main><h1>what is in the logs</h1>"
        f"{''.join(parts)}</main></body></html>"
    )
