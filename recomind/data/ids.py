"""Ids of any kind as rows: text, UUIDs, integers up to 64 bits.

An id is kept as text, an integer in decimal digits. Rows follow the natural order of ids: numbers
in them count as numbers, so `u2` stands before `u10`.

    id     a3  a12  b1
    row     0    1   2
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from recomind.artifacts import reading
from recomind.data.parquet import read_checked
from recomind.errors import SchemaError

_LOOKED_AT = 1000  # ids of text that are looked at for signs of rounding
_NUMBERED = r"^(\D*)(\d{1,18})$"  # 18 digits always fit an int64
# What a table with gaps makes of large integers; "3e12" alone may be a hexadecimal id.
_ROUNDED = r"^\d(\.\d+[eE]\+?|[eE]\+)\d+$"
_INTEGER = r"^(0|[1-9]\d{0,17})$"


def as_ids(values: pl.Series, where: str) -> pl.Series:
    """Any column of ids as text; null stays null.

    Raises:
        SchemaError: fractions, or a type that can be no id.
    """
    dtype = values.dtype
    if dtype == pl.String:
        if bool(values.head(_LOOKED_AT).str.contains(_ROUNDED).any()):
            raise _rounded(values, where)
        return values
    if dtype.is_float():  # what a table with gaps makes of integers
        whole = values.cast(pl.Int64, strict=False)
        if bool(((whole.cast(dtype) != values) | (values.abs() >= 2**53)).any()):
            raise _rounded(values, where)
        return whole.cast(pl.String)
    if dtype == pl.Binary:
        return values.bin.encode("hex")
    if dtype.is_integer() or isinstance(dtype, (pl.Categorical, pl.Enum)):
        return values.cast(pl.String)
    raise SchemaError(
        f"column {values.name!r} of {where} can be no id", got=dtype, expected="text or integers"
    )


def _rounded(values: pl.Series, where: str) -> SchemaError:
    """Ids that were floats on the way: several may have become one."""
    return SchemaError(
        f"column {values.name!r} of {where} holds fractions, or integers rounded to them",
        got=values.drop_nulls()[:3].to_list(),
        expected="ids: text or integers",
        mend="write the files anew with the ids as integers or text",
    )


def are_integers(ids: pl.Series) -> bool:
    """Whether all ids [N] of text are integers below 10**18, written plainly."""
    return bool(ids.str.contains(_INTEGER).all())


def in_natural_order(ids: pl.Series) -> pl.Series:
    """Distinct ids [N], sorted; numbers in them count as numbers.

    >>> in_natural_order(pl.Series(["u10", "u2", "u2", "x"])).to_list()
    ['u2', 'u10', 'x']
    """
    id_ = pl.col("id")
    parts = [
        id_.str.extract(_NUMBERED, 1).fill_null(id_),
        id_.str.extract(_NUMBERED, 2).cast(pl.Int64),
        id_,
    ]
    return pl.DataFrame({"id": ids}).unique().sort(parts)["id"]


def hash_keys(ids: pl.Series) -> np.ndarray:
    """[N] int64: what hashes of ids are computed from.

    The number at its end where an id has one, so that 17, "17" and "u17" are treated alike;
    otherwise 63 bits of the text's BLAKE2 hash. Null gives -1.
    """
    distinct = ids.unique()
    number = distinct.str.extract(_NUMBERED, 2).cast(pl.Int64)
    plain = distinct.filter(number.is_null() & distinct.is_not_null())
    hashed = {text: _hash63(text) for text in plain.to_list()}
    texts = pl.Series([hashed.get(t, -1) for t in distinct.to_list()], dtype=pl.Int64)
    keys = pl.DataFrame({"id": distinct, "key": number.fill_null(texts)})
    frame = pl.DataFrame({"id": ids}).join(
        keys, on="id", how="left", nulls_equal=True, maintain_order="left"
    )
    return frame["key"].to_numpy().copy()


def _hash63(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class IdMap:
    """A company's ids and our rows, both ways.

    Args:
        ids: [N] distinct ids as text.
        rows: [N] the row of each; 0 .. N - 1 in their order where None.

    >>> items = IdMap(pl.Series(["a3", "a12"]))
    >>> items.rows(["a12", "unheard of"]).tolist(), items.ids([0]).to_list()
    ([1, -1], ['a3'])
    """

    def __init__(self, ids: pl.Series, rows: pl.Series | None = None) -> None:
        rows = pl.int_range(len(ids), eager=True) if rows is None else rows
        self.table = pl.DataFrame({"id": ids, "row": rows.cast(pl.Int64)})

    def __len__(self) -> int:
        return self.table.height

    @classmethod
    def of(cls, ids: pl.Series, *, keep_integers: bool = False) -> IdMap:
        """The map of `ids` [N]; with `keep_integers` integers stand for themselves."""
        ordered = in_natural_order(ids)
        if keep_integers and are_integers(ordered):
            return cls(ordered, ordered.cast(pl.Int64))
        return cls(ordered)

    def rows(self, ids: object) -> np.ndarray:
        """[n] int64: the rows of ids [n], of any type that `as_ids` takes; -1 for unknown ones."""
        asked = as_ids(pl.Series("id", ids), "the ids")  # pyright: ignore[reportArgumentType]
        found = pl.DataFrame({"id": asked}).join(
            self.table, on="id", how="left", maintain_order="left"
        )
        return found["row"].fill_null(-1).to_numpy().copy()

    def ids(self, rows: object) -> pl.Series:
        """[n] text: the ids of rows [n]; null for unknown ones."""
        asked = pl.Series("row", rows, dtype=pl.Int64)  # pyright: ignore[reportArgumentType]
        found = pl.DataFrame({"row": asked}).join(
            self.table, on="row", how="left", maintain_order="left"
        )
        return found["id"]

    @classmethod
    def load(cls, path: Path) -> IdMap:
        """Read the Parquet file of `table`.

        Raises:
            ArtifactError: absent, damaged, or no map of ids.
        """
        with reading("map of ids", path):
            table = read_checked(path, "map of ids", ["id", "row"])
            return cls(table["id"].cast(pl.String), table["row"])
