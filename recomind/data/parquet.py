"""Parquet, looked at before a native reader believes it."""

from __future__ import annotations

from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path

import polars as pl

from recomind.artifacts import reading
from recomind.data.thrift import Struct, read_struct

_MAGIC = b"PAR1"
_LARGEST_GROWTH = 10_000  # bytes that a byte of the file may become; a guard against bombs
_SMALL = 2**28  # bytes that need no such guard
_DEEPEST = 64  # lists and structs in each other

# Numbers of the fields in https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
_SCHEMA, _NUM_ROWS, _GROUPS = 2, 3, 4  # FileMetaData
_REPETITION, _NAME, _NUM_CHILDREN, _REPEATED = 3, 4, 5, 2  # SchemaElement
_COLUMNS, _GROUP_ROWS, _PIECE = 1, 3, 3  # RowGroup, ColumnChunk
_PATH, _PIECE_VALUES, _GROWN, _STORED, _DATA_BEGIN, _DICTIONARY_BEGIN = 3, 5, 6, 7, 9, 11
_PAGE_KIND, _PAGE_GROWN, _PAGE_STORED, _DATA, _DICTIONARY, _DATA_2 = 1, 2, 3, 5, 7, 8  # PageHeader
_IS_DATA, _IS_DICTIONARY, _IS_DATA_2 = 0, 2, 3  # PageType
_VALUES, _LEVELS = 1, (5, 6)  # in the headers of all pages; in those of version 2 alone


# What polars raises on a bad file; a panic of its threads is no `Exception`.
UNREADABLE = (OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException)


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


def read_checked(path: Path, what: str, columns: list[str] | None = None) -> pl.DataFrame:
    """Read a Parquet file, or `columns` of it.

    Raises:
        ArtifactError: as `scan_checked`, or its pages do not hold what the footer says.
    """
    with reading(what, path):
        check_parquet(Path(path))
        return pl.read_parquet(path, columns=columns)


def check_parquet(path: Path) -> None:
    """Raise ValueError unless `path` is Parquet whose pieces and pages lie inside it.

    polars believes the sizes that a page names, and ends the process where one is 2^61 bytes.
    """
    try:
        _check(Path(path))
    except (AttributeError, KeyError, TypeError) as error:  # a struct of other fields
        raise ValueError(f"no footer of Parquet: {error!r}") from error


def _check(path: Path) -> None:
    size = path.stat().st_size
    if size < 12:
        raise ValueError("no Parquet, or cut short")
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        length, last = int.from_bytes(content[-8:-4], "little"), content[-4:]
        if content[:4] != _MAGIC or last != _MAGIC:
            raise ValueError("no Parquet, or cut short")
        if length > size - 12:
            raise ValueError(f"a footer of {length} bytes in a file of {size}")
        end = size - 8
        footer, _ = read_struct(content, end - length, end)
        check_schema(footer[_SCHEMA])
        _check_groups(footer, content, end - length)


def check_schema(elements: Sequence[Struct]) -> None:
    """Raise ValueError unless the columns make a tree, not too deep for a reader's recursion."""
    left = [1]  # children to come, at each depth
    for element in elements:
        while left and left[-1] == 0:
            left.pop()
        children = element.get(_NUM_CHILDREN, 0)
        if not left or len(left) > _DEEPEST or children < 0:
            raise ValueError("columns that make no tree")
        left[-1] -= 1
        left.append(children)
    if any(left):
        raise ValueError("columns that make no tree")


def _check_groups(footer: Struct, content: mmap, end: int) -> None:
    groups = footer[_GROUPS]
    rows = [group[_GROUP_ROWS] for group in groups]
    if min(rows, default=0) < 0 or sum(rows) != footer[_NUM_ROWS]:
        raise ValueError(f"row groups of {sum(rows)} rows in a file of {footer[_NUM_ROWS]}")
    pieces = [
        (column[_PIECE], n) for g, n in zip(groups, rows, strict=True) for column in g[_COLUMNS]
    ]
    grown = sum(max(piece[_GROWN], piece[_PIECE_VALUES]) for piece, _ in pieces)
    if grown > max(_SMALL, _LARGEST_GROWTH * len(content)):
        raise ValueError(f"{len(content)} bytes that say they are {grown}")
    repeated = {e[_NAME] for e in footer[_SCHEMA] if e.get(_REPETITION) == _REPEATED}
    for piece, num_rows in pieces:
        path = piece[_PATH]
        if len(path) == 1 and path[0] not in repeated and piece[_PIECE_VALUES] != num_rows:
            raise ValueError(f"{piece[_PIECE_VALUES]} values of a column in {num_rows} rows")
        _check_piece(piece, content, end)


def _check_piece(piece: Struct, content: mmap, end: int) -> None:
    """The pages of a column lie inside the file, and have as many values as it says."""
    if piece[_PIECE_VALUES] == 0:
        return  # nobody reads it: an empty file of pyarrow's says that its pages begin at 0
    data = piece[_DATA_BEGIN]
    begin = min(data, piece.get(_DICTIONARY_BEGIN) or data)
    if begin < 4 or piece[_STORED] < 0 or piece[_PIECE_VALUES] < 0:
        raise ValueError("a column that begins outside the file")
    if begin + piece[_STORED] > end:
        raise ValueError("a column that ends outside the file")
    left = piece[_PIECE_VALUES]
    while left > 0:
        page, begin = read_struct(content, begin, end)
        begin += page[_PAGE_STORED]
        left -= _num_values(page)
        if begin > end or page[_PAGE_STORED] < 0:
            raise ValueError("a page that ends outside the file")
    if left < 0:
        raise ValueError("pages of more values than their column has")


def _num_values(page: Struct) -> int:
    """How many values of a column a page holds; a dictionary holds none of them."""
    grown, stored = page[_PAGE_GROWN], page[_PAGE_STORED]
    if grown < 0:
        raise ValueError(f"a page of {grown} bytes")
    if page[_PAGE_KIND] == _IS_DICTIONARY:
        if not 0 <= page[_DICTIONARY][_VALUES] <= grown:  # a value takes a byte, at least
            raise ValueError(
                f"a dictionary of {page[_DICTIONARY][_VALUES]} values in {grown} bytes"
            )
        return 0
    if page[_PAGE_KIND] not in (_IS_DATA, _IS_DATA_2):
        return 0
    header = page[_DATA if page[_PAGE_KIND] == _IS_DATA else _DATA_2]
    levels = [header.get(name, 0) for name in _LEVELS] if header is page.get(_DATA_2) else []
    if min(levels, default=0) < 0 or sum(levels) > min(grown, stored):
        raise ValueError("levels that are longer than their page")
    if header[_VALUES] < 0:
        raise ValueError(f"a page of {header[_VALUES]} values")
    return header[_VALUES]
