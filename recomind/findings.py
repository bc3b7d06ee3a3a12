"""Findings of a check, each one line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from recomind.errors import RecomindError, SchemaError


class Level(Enum):
    """The weight of a finding."""

    error = "error"  # a promise is broken: the pipeline would fail, or learn nonsense
    warning = "warning"  # allowed, but rarely intended
    note = "note"  # for your information


@dataclass(slots=True)
class Finding:
    """One finding.

    >>> str(Finding(Level.warning, SchemaError("few rows", got=3, expected=">= 50")))
    'warning: few rows; got: 3; expected: >= 50'
    """

    level: Level
    error: RecomindError  # what, got, expected and how to mend it, whatever the level

    def __str__(self) -> str:
        text = " ".join(str(self.error).split())
        return f"{self.level.value}: {text}"


def finding(
    level: Level, what: str, got: object = None, expected: object = None, *, mend: str = ""
) -> Finding:
    """Make a finding from the parts of its line."""
    return Finding(level, SchemaError(what, got=got, expected=expected, mend=mend))
