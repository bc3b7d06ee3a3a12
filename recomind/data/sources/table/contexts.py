"""What is known when the item is chosen: numbers with gaps, or categories."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from recomind.data.sources.scanning import Table
from recomind.errors import SchemaError

_SAMPLE = 100_000  # rows that the mean of a number is told from


def checked_context(table: Table, events: pl.DataFrame, name: str) -> pl.DataFrame:
    """A context as a number with gaps, or as a category."""
    dtype = events.schema[name]
    if dtype.is_nested() or dtype == pl.Binary:
        raise SchemaError(
            f"data.{name} is neither a number nor a category",
            got=dtype,
            expected="numbers, text, booleans or days",
            mend="take a part of it by an SQL expression, such as ctx.device",
        )
    if not dtype.is_float():
        return events
    finite = pl.col(name).is_null() | pl.col(name).is_nan() | pl.col(name).is_finite()
    table.require(events, name, finite, "finite numbers, or nothing where they are unknown")
    return events.with_columns(pl.col(name).fill_nan(None))


def means_of_first_rows(table: Table, contexts: Mapping[str, pl.Expr]) -> dict[str, float]:
    """The mean of each context that is a number, over rows that no cut into batches changes."""
    found = {}
    for name, value in contexts.items():
        if table.lazy.select(value).collect_schema().dtypes()[0].is_float():
            first = table.head(value.alias(name), _SAMPLE)
            found[name] = float(first.fill_nan(None).mean() or 0.0)  # pyright: ignore
    return found
