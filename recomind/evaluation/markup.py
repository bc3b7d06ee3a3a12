"""Pieces of markup that the sections of the page share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from recomind.evaluation.page_style import STYLE
from recomind.evaluation.presentation import figure
from recomind.evaluation.svg import Series


def table(head: Sequence[str], rows: Sequence[tuple[str, list[str], str]]) -> str:
    """Rows are (name, cells that are markup already, class of the row)."""
    # On a narrow screen rows become blocks, in which every cell says whose it is.
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f'<tr class="{style}"><td>{escape(name)}</td>'
        + "".join(
            f'<td data-of="{escape(column)}">{cell}</td>'
            for column, cell in zip(head[1:], cells, strict=True)
        )
        + "</tr>"
        for name, cells, style in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def page(title: str, body: str) -> str:
    """A whole page in the report's style; the title stands on top."""
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body><main><h1>{escape(title)}</h1>\n{body}"
        "</main></body>\n</html>\n"
    )


def fact(value: object) -> str:
    """Anything that JSON can hold, as one cell."""
    if isinstance(value, bool | str):
        return escape(str(value))
    if value is None or isinstance(value, int | float):
        return figure(value)
    return escape(json.dumps(value, sort_keys=True)[:80])


def legend(series: Sequence[Series]) -> str:
    """A swatch and a name for each line of a chart."""
    items = "".join(f'<span><i class="{s.style}"></i>{escape(s.name)}</span>' for s in series)
    return f'<div class="legend">{items}</div>'
