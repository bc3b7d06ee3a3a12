"""Checks on tables; each failure names the table, the column, the row and the value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from recomind.errors import SchemaError, did_you_mean

Rule = tuple[str, pl.Expr, str]  # a column, what holds in each row, and that in words


def require_columns(known: list[str], wanted: list[str], where: str) -> None:
    """Raise SchemaError for the first of `wanted` that `known` lacks."""
    for name in wanted:
        if name not in known:
            raise SchemaError(
                f"column {name!r} is missing from {where}", mend=did_you_mean(name, known)
            )


def require_rows(frame: pl.DataFrame, where: str) -> None:
    """Raise SchemaError where the table is empty."""
    if frame.height == 0:
        raise SchemaError(f"{where} is empty", got="0 rows", expected="at least one row")


def require_schema(
    frame: pl.DataFrame, schema: Mapping[str, pl.DataType | type[pl.DataType]], where: str
) -> None:
    """Raise SchemaError unless every column of `schema` is there with its type."""
    require_columns(frame.columns, list(schema), where)
    for name, dtype in schema.items():
        if frame.schema[name] != dtype:
            first = frame[name][0] if frame.height else "no rows"
            raise SchemaError(
                f"column {name!r} of {where} has the wrong type",
                got=f"{frame.schema[name]}, first value {first!r}",
                expected=dtype,
            )


def require_all(
    frame: pl.DataFrame, column: str, holds: pl.Expr, *, expected: str, where: str
) -> None:
    """Raise SchemaError at the first row of `frame` where `holds` is not True."""
    require_each(frame, [(column, holds, expected)], where)


def require_each(frame: pl.DataFrame, rules: Sequence[Rule], where: str) -> None:
    """Raise SchemaError at the first row that breaks the first broken rule of `rules`.

    All rules are looked at in one pass: blocks of a log are checked each time they are read.
    """
    broken = [holds.fill_null(False).not_() for _, holds, _ in rules]
    counts = frame.select(each.sum().alias(str(index)) for index, each in enumerate(broken))
    for (column, _, expected), rows, count in zip(rules, broken, counts.row(0), strict=True):
        if count:
            bad = frame.with_row_index("row").filter(rows).row(0, named=True)
            raise SchemaError(
                f"column {column!r} of {where} has a value it may not have",
                got=f"{bad[column]!r} in row {bad['row']} ({count} such rows)",
                expected=expected,
            )


def require_present(frame: pl.DataFrame, columns: list[str], where: str) -> None:
    """Raise SchemaError at the first missing value (null) of `columns`."""
    for name in columns:
        if frame[name].null_count():
            require_all(
                frame,
                name,
                pl.col(name).is_not_null(),
                expected="a value in every row",
                where=where,
            )


def cast_column(
    frame: pl.DataFrame, column: str, dtype: type[pl.DataType], where: str
) -> pl.DataFrame:
    """`column`, read as text, as `dtype`; SchemaError names the first text that is none."""
    text = pl.col(column)
    value = (
        text.str.to_date("%Y-%m-%d", strict=False)
        if dtype is pl.Date
        else text.cast(dtype, strict=False)
    )
    cast = frame.with_columns(value.alias("_cast"))
    bad = cast.with_row_index("row").filter(
        pl.col("_cast").is_null() & pl.col(column).is_not_null()
    )
    if bad.height:
        raise SchemaError(
            f"column {column!r} of {where} has the wrong type",
            got=f"{bad[column][0]!r} in row {bad['row'][0]} ({bad.height} such rows)",
            expected=dtype.__name__,
        )
    return cast.with_columns(pl.col("_cast").alias(column)).drop("_cast")
