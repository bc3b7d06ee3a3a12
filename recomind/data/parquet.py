"""Parquet, looked at before a native reader believes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from recomind.artifacts import reading

_MAGIC = b"PAR1"
_LARGEST_GROWTH = 10_000  # bytes that a byte of the file may become; a guard against bombs
_SMALL = 2**28  # bytes that need no such guard


def scan_checked(path: Path, what: str) -> pl.LazyFrame:
    """Scan a Parquet file whose footer is sound; reading it may still fail, see `reading`.

    Args:
        path: of the file.
        what: it holds, for the error.

    Raises:
        ArtifactError: no Parquet, cut short, or a footer that points outside the file.
    """
    with reading(what, path):
        check_parquet(Path(path))
        return pl.scan_parquet(path, glob=False)


def check_parquet(path: Path) -> None:
    """Raise ValueError unless `path` is Parquet whose pieces lie inside it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(4)
        file.seek(max(0, size - 8))
        length, last = int.from_bytes(file.read(4), "little"), file.read(4)
    if size < 12 or first != _MAGIC or last != _MAGIC:
        raise ValueError("no Parquet, or cut short")
    if length > size - 12:
        raise ValueError(f"a footer of {length} bytes in a file of {size}")
    _check_pieces(path, size)


def _check_pieces(path: Path, size: int) -> None:
    import pyarrow.parquet as pq  # a quarter of a second that most commands need not spend

    footer: Any = pq.read_metadata(path)
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    rows = [group.num_rows for group in groups]
    if min(rows, default=0) < 0 or sum(rows) != footer.num_rows:
        raise ValueError(f"row groups of {sum(rows)} rows in a file of {footer.num_rows}")
    pieces = [group.column(c) for group in groups for c in range(group.num_columns)]
    for piece in pieces:
        begin = min(piece.data_page_offset, piece.dictionary_page_offset or piece.data_page_offset)
        if begin < 4 or piece.total_compressed_size < 0:
            raise ValueError("a column that begins outside the file")
        if begin + piece.total_compressed_size > size - 8:
            raise ValueError("a column that ends outside the file")
    grown = sum(piece.total_uncompressed_size for piece in pieces)
    if grown > max(_SMALL, _LARGEST_GROWTH * size):
        raise ValueError(f"{size} bytes that say they are {grown}")
