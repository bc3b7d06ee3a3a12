"""Frames on their way through the partitions: in memory where there is one, else on disk.

A file is sorted by one column and cut into small row groups, whose bounds Parquet keeps: a reader
of a range touches the groups that overlap it, in every file, and no other.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recomind.artifacts import room_for

_ROW_GROUP = 16_384  # rows that are read for one row of them


@dataclass(frozen=True, slots=True)
class Part:
    """A frame, or the file that holds it."""

    held: pl.DataFrame | Path

    def scan(self) -> pl.LazyFrame:
        """The frame, lazily."""
        if isinstance(self.held, Path):
            return pl.scan_parquet(self.held, glob=False)
        return self.held.lazy()


@dataclass(frozen=True, slots=True)
class Span:
    """Values from `low` up to `high`, which is not among them; None: no bound."""

    low: int | None = None
    high: int | None = None

    def holds(self, column: str) -> pl.Expr:
        """Whether the column lies within."""
        within = pl.lit(True)
        if self.low is not None:
            within &= pl.col(column) >= self.low
        if self.high is not None:
            within &= pl.col(column) < self.high
        return within


class Spill:
    """Keeps frames: in memory, and once `to_disk` is called in files that go with this object."""

    def __init__(self) -> None:
        self.folder: Path | None = None

    def to_disk(self, where: str) -> None:
        """Keep frames in a new folder from now on.

        Args:
            where: the folder is made; empty: the system's own for temporary files.
        """
        if where:
            Path(where).mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="recomind-", dir=where or None))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def keep(self, name: str, frame: pl.DataFrame) -> Part:
        """The frame as a part; a name that is kept again replaces what it stood for.

        Raises:
            DiskFullError: there is no room for it.
        """
        if self.folder is None:
            return Part(frame)
        path, writing = self.folder / f"{name}.parquet", self.folder / f"{name}.writing"
        with room_for(self.folder):
            frame.write_parquet(
                writing, compression="lz4", row_group_size=_ROW_GROUP, statistics=True
            )
        writing.replace(path)
        return Part(path)

    def drop(self, parts: Sequence[Part]) -> None:
        """Remove the files of parts that are read no more."""
        for part in parts:
            if isinstance(part.held, Path):
                part.held.unlink(missing_ok=True)


def read(parts: Sequence[Part], column: str = "", span: Span | None = None) -> pl.DataFrame:
    """The rows of `parts`, one part after another, with `column` within `span`."""
    span = span or Span()
    return pl.concat([part.scan().filter(span.holds(column)) for part in parts]).collect()


def spans(bounds: Sequence[int]) -> list[Span]:
    """Spans that begin at each of `bounds` but the first, which stands for no bound.

    >>> [(s.low, s.high) for s in spans([0, 5, 9])]
    [(None, 5), (5, 9), (9, None)]
    """
    ends: list[int | None] = [None, *bounds[1:], None]
    return [Span(low, high) for low, high in itertools.pairwise(ends)]
