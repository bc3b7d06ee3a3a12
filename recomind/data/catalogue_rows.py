"""Rows of a Parquet table as a catalogue store keeps them, checked.

Symbols: `n` rows, `E` length of an embedding.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recomind.data.catalogue_format import EmbeddingKind, StoreFormat
from recomind.errors import SchemaError

_INT8_MAX = 127


def encoded(table: pl.DataFrame, form: StoreFormat) -> dict[str, np.ndarray]:
    """Columns of a chunk as the store keeps them, checked."""
    wanted = ["item_id", *form.dense_names, *form.categorical_names]
    wanted += ["embedding"] if form.embedding_dim else []
    if missing := [name for name in wanted if name not in table.columns]:
        raise SchemaError("columns of items are absent", got=table.columns, expected=missing)
    ids = _numbers(table, ["item_id"], np.int64)
    found = {
        "item_id": ids,
        "dense": _numbers(table, form.dense_names, np.float32),
        "categorical": _numbers(table, form.categorical_names, np.int64),
    }
    check_rows(~np.isfinite(found["dense"]), ids, "dense features that are not finite")
    sizes = np.array(form.vocab_sizes, dtype=np.int64)
    outside = (found["categorical"] < 0) | (found["categorical"] >= sizes)
    check_rows(outside, ids, "categorical features outside their vocabularies")
    return found | (_encoded_embedding(table, ids, form) if form.embedding_dim else {})


def _numbers(table: pl.DataFrame, names: list[str], dtype: type) -> np.ndarray:
    """[n, columns]; a null of a float column becomes NaN, which is refused later."""
    columns = [table[name] for name in names]
    for column in columns:
        if not (column.dtype.is_integer() or (dtype is np.float32 and column.dtype.is_float())):
            raise SchemaError(
                f"column {column.name!r} of another type",
                got=f"{column.dtype}, {_first(column)}",
                expected=dtype.__name__,
            )
        if dtype is np.int64:
            _require_int64(column)
    if not columns:
        return np.zeros((len(table), 0), dtype=dtype)
    return np.stack([column.to_numpy().astype(dtype) for column in columns], axis=1)


def _require_int64(column: pl.Series) -> None:
    if column.null_count():
        raise SchemaError(f"column {column.name!r} has nulls", got=column.null_count())
    if column.dtype in (pl.UInt64, pl.Int128):
        lost = column.cast(pl.Int64, strict=False).is_null()
        if lost.any():
            raise SchemaError(
                f"column {column.name!r} has numbers that int64 cannot keep",
                got=_first(column, lost),
                mend="number or hash them into less",
            )


def _first(column: pl.Series, bad: pl.Series | None = None) -> str:
    """The first value of a column, or the first that is `bad`, and its row."""
    if not len(column):
        return "no rows"
    row = 0 if bad is None else int(bad.arg_true()[0])
    value = column[row]
    text = repr(value.to_list() if isinstance(value, pl.Series) else value)
    return f"{text[:60]} in row {row}"


def _embedding_lists(column: pl.Series) -> pl.Series:
    """The column as lists of float32, without nulls."""
    inner = column.dtype.inner if isinstance(column.dtype, (pl.List, pl.Array)) else None
    if inner is None or not (inner.is_integer() or inner.is_float()):
        raise SchemaError(
            f"column {column.name!r} of another type",
            got=f"{column.dtype}, {_first(column)}",
            expected="a list of numbers in every row",
            mend="parse text into lists before it is written to Parquet",
        )
    lists = column.cast(pl.List(pl.Float32))
    absent = lists.list.eval(pl.element().is_null().any()).list.first()
    if absent.fill_null(False).any():
        raise SchemaError(
            f"column {column.name!r} has nulls",
            got=_first(column, absent.fill_null(False)),
            expected="a number in every place",
        )
    return lists


def _encoded_embedding(
    table: pl.DataFrame, ids: np.ndarray, form: StoreFormat
) -> dict[str, np.ndarray]:
    column = _embedding_lists(table["embedding"])
    lengths = column.list.len().to_numpy()
    wrong = lengths != form.embedding_dim
    check_rows(wrong[:, None], ids, f"embeddings that are not {form.embedding_dim} long")
    values = column.explode().to_numpy().reshape(len(table), form.embedding_dim)
    largest = np.abs(values).max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        kept = values.astype(np.float16)
    bad = ~np.isfinite(largest) | (largest == 0)
    if form.embedding is EmbeddingKind.float16:
        bad |= ~np.isfinite(kept).all(axis=1, keepdims=True) | ~kept.any(axis=1, keepdims=True)
    check_rows(bad, ids, "embeddings that are zero or not finite")
    if form.embedding is EmbeddingKind.float16:
        return {"embedding": kept}
    scale = largest / _INT8_MAX
    return {"embedding": np.rint(values / scale), "scale": scale}


def check_rows(bad: np.ndarray, ids: np.ndarray, what: str) -> None:
    """Raise where a row of `bad` [n, columns] has a True."""
    rows = np.flatnonzero(bad.any(axis=1))
    if len(rows):
        raise SchemaError(f"items with {what}", got=f"{len(rows)}, the first is {ids[rows[0], 0]}")
