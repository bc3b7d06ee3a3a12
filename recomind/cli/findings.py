"""Findings of a check on the terminal, one per line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from recomind.errors import SchemaError
from recomind.findings import Finding, Level

_STYLES = {Level.error: "bold red", Level.warning: "yellow", Level.note: "dim"}


def say(checked: Iterable[tuple[str, Sequence[Finding]]], what: str) -> None:
    """Print what was found in each thing that was checked.

    Args:
        checked: title and findings.
        what: whose contract it is.

    Raises:
        SchemaError: there are errors among the findings.
    """
    console, counts = Console(highlight=False), Counter[Level]()
    for title, findings in checked:
        console.print(Text(title), soft_wrap=True)
        for finding in findings:
            level, _, text = str(finding).partition(": ")
            line = Text.assemble(f"  {level:<9}", text, style=_STYLES[finding.level])
            console.print(line, soft_wrap=True)
        counts.update(finding.level for finding in findings)
    if counts[Level.error]:
        raise SchemaError(
            f"the contract of a {what} is broken",
            got=f"{counts[Level.error]} errors, {counts[Level.warning]} warnings",
            mend="see the lines above",
        )
