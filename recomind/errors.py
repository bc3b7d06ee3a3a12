"""Errors that a user can cause; each says what, got, expected and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ECHOED = 200  # characters of an input that an error repeats


class RecomindError(Exception):
    """Root of every error that bad input can cause; the command line exits with status 2."""

    def __init__(
        self, what: str, *, got: object = None, expected: object = None, mend: str = ""
    ) -> None:
        self.what, self.got, self.expected, self.mend = what, got, expected, mend
        parts = [what if len(what) <= 5 * ECHOED else f"{what[: 5 * ECHOED]}..."]
        if got is not None:
            parts.append(f"got: {_short(got)}")
        if expected is not None:
            parts.append(f"expected: {expected}")
        if mend:
            parts.append(f"to mend: {mend}")
        super().__init__("; ".join(parts))


def _short(got: object) -> str:
    """The input as an error repeats it: a body may have megabytes, and a file and row come last."""
    text = str(got)
    if len(text) <= ECHOED:
        return text
    head, tail = text[: ECHOED * 3 // 5], text[-ECHOED * 2 // 5 :]
    return f"{head}...{tail} ({len(text):,} characters)"


class ConfigError(RecomindError):
    """A setting is unknown, out of range, or contradicts another."""


class SchemaError(RecomindError):
    """A log, table or batch does not have the columns, types or values that it must have."""


class ArtifactError(RecomindError):
    """A stage's result on disk is absent, damaged, foreign or of another format version."""


class DiskFullError(ArtifactError):
    """There is no room for a result; what was there before is as it was."""


class ServiceError(RecomindError):
    """A service, or a process of it, does not come up, has ended, or holds another scorer."""


class ParityError(RecomindError):
    """Two things that must agree (ranker and policy, policy and export) do not."""


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word, or lists all where none is close.

    >>> did_you_mean("gama", ["gamma", "rho"])
    "did you mean 'gamma'?"
    """
    known = sorted(known)
    close = difflib.get_close_matches(got, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known) or 'none'}"


def require(
    holds: bool, what: str, got: object = None, expected: object = None, *, mend: str = ""
) -> None:
    """Raise a SchemaError unless `holds`."""
    if not holds:
        raise SchemaError(what, got=got, expected=expected, mend=mend)
