"""Parquet that would end the process of whoever reads it: one typed error, whoever it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from recomind.artifacts import reading
from recomind.data.ids import IdMap
from recomind.data.parquet import check_schema, read_checked, scan_checked
from recomind.data.sources.finding import Files
from recomind.data.sources.scanning import Table
from recomind.data.sources.served.decisions import read_decisions
from recomind.data.thrift import read_struct
from recomind.errors import RecomindError
from recomind.serving.company import CompanyNames

FRAME = pl.DataFrame({"id": [f"a{i}" for i in range(100)], "row": range(100)})
NUM_VALUES, NEGATIVE = b"\x15\xc8\x01", b"\x15\xc7\x01"  # 100 and -100, as a header's first field
OPTIONAL, REQUIRED = b"\x25\x02\x18\x02id", b"\x25\x00\x18\x02id"  # an element of the schema


def written(folder: Path, old: bytes, new: bytes) -> Path:
    """A file of pyarrow's, as sessions are, with every `old` made `new`."""
    path = folder / "item_ids.parquet"
    pq.write_table(FRAME.to_arrow(), path, compression="none")
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


def log(path: Path) -> Any:
    return Table(Files(path=str(path)), "data.log").collect({"id": pl.col("id")})


READERS: list[Callable[[Path], Any]] = [
    lambda path: scan_checked(path, "sessions").collect(),
    lambda path: read_checked(path, "map of ids"),
    IdMap.load,
    lambda path: CompanyNames.load(path.parent, {}),
    lambda path: read_decisions(path.parent),
    log,
]


@pytest.mark.parametrize("read", READERS)
def test_a_page_of_fewer_values_than_none_is_refused(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    """polars reserves 2^64 - 100 bits for it, and Rust ends a process without memory."""
    path = written(tmp_path, NUM_VALUES, NEGATIVE)
    with pytest.raises(RecomindError, match=r"values"):
        read(path)


def test_a_column_that_is_optional_in_its_statistics_alone_ends_no_process(tmp_path: Path) -> None:
    """pyarrow's `RowGroupMetaData.column` does: its exception crosses a boundary unseen."""
    path = written(tmp_path, OPTIONAL, REQUIRED)
    assert scan_checked(path, "sessions").collect_schema().names() == ["id", "row"]


def test_whatever_byte_of_a_file_is_changed_a_reader_goes_on_or_says_so_in_one_error(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, b"PAR1", b"PAR1")
    content, refused = path.read_bytes(), 0
    places = range(0, len(content), 7)  # all of them take half a minute: a panic is traced back
    for place, mask in zip(places, itertools.cycle((0xFF, 0x01, 0x80)), strict=False):
        changed = bytearray(content)
        changed[place] ^= mask
        path.write_bytes(changed)
        try:
            with reading("sessions", path):
                scan_checked(path, "sessions").collect()
        except RecomindError:
            refused += 1
    assert refused > len(places) / 3


@pytest.mark.parametrize(
    ("counts", "holds"),
    [
        ([2, 0, 0], True),
        ([1, 1, 0], True),
        ([2, 0], False),
        ([1, 0, 0], False),
        ([-1], False),
        ([1] * 100 + [0], False),
    ],
)
def test_columns_make_a_tree(counts: list[int], holds: bool) -> None:
    elements = [{5: count} for count in counts]
    if holds:
        check_schema(elements)
    else:
        with pytest.raises(ValueError, match="columns that make no tree"):
            check_schema(elements)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x15", b"\x18\x05a", b"\x15" + b"\xff" * 11, b"\x1c" * 100, b"\x19\xf5\x7f", b"\x1b"],
)
def test_what_is_no_struct_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"struct|bytes|bits|type"):
        read_struct(content, 0, len(content))


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_day_without_rows_is_read(tmp_path: Path, version: str, dictionary: bool) -> None:
    path = tmp_path / "empty.parquet"
    table = FRAME[:0].to_arrow()
    pq.write_table(table, path, data_page_version=version, use_dictionary=dictionary)
    assert read_checked(path, "sessions").shape == (0, 2)
    FRAME.write_parquet(tmp_path / "full.parquet")
    assert log(tmp_path / "*.parquet").height == 100
