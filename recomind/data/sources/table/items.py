"""The item table as a catalogue: content, and one snapshot a day of what earlier days tell.

Symbols: `D` days of the log, `N` items, `F` dense features, `V` length of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl
import torch

from recomind.data.catalogue import TableCatalogue
from recomind.data.ids import IdMap, as_ids, hash_keys
from recomind.data.scaling import Scaling
from recomind.data.sources.scanning import Table
from recomind.data.sources.settings import named, typed
from recomind.data.sources.table.config import ItemTable
from recomind.data.times import local_days, to_milliseconds
from recomind.errors import ConfigError, SchemaError
from recomind.streams import hash_int64

_BUCKET_SALT = 7


@dataclass(kw_only=True, slots=True)
class Category:
    """A category of items: words numbered from 1, 0 for none of them."""

    value: str = ""  # column or SQL expression; empty: the category's own name
    buckets: int = 0  # hash into this many ids in place of a vocabulary
    words: list[str] = field(default_factory=list)  # the vocabulary; empty: all words there are
    size: int = 0  # the values are codes in [0, size) already


@dataclass(kw_only=True, slots=True)
class ItemContent:
    """The item table by row of the catalogue."""

    ids: IdMap
    numbers: dict[str, np.ndarray]  # [N] float64
    codes: dict[str, np.ndarray]  # [N] int64
    sizes: dict[str, int]  # vocabulary sizes
    words: dict[str, list[str]]  # words of codes 1, 2, ...; not of hashed ones
    groups: dict[str, np.ndarray]  # [N] int64: each category densely numbered, none as one more
    published_day: np.ndarray | None  # [N] float64, days since 1970
    num_listed: int  # items of the table; further ones were seen in the log only


def read_items(files: ItemTable, zone: str) -> tuple[pl.DataFrame, Table] | None:
    """The table, one row an item: `id`, `number.`, `category.`, `tag.`, `vector.` and `published`.

    None where the config names no table: items are then those of the log.
    """
    if not files.path:
        if any((files.numbers, files.categories, files.tags, files.vectors, files.published)):
            raise ConfigError("data.items without a path", mend="set data.items.path")
        return None
    table = Table(files, "data.items", ids=(files.id,))
    wanted = {"id": table.expression(files.id, "id")}
    for kind in ("numbers", "tags", "vectors"):
        for name, text in named(getattr(files, kind), f"data.items.{kind}").items():
            column = f"{kind[:-1]}.{name}"
            wanted[column] = table.expression(text, column, f"data.items.{kind}.{name}")
    for name, category in categories_of(files).items():
        wanted[f"category.{name}"] = table.expression(
            category.value, f"category.{name}", f"data.items.categories.{name}"
        )
    if files.published:
        wanted["published"] = table.expression(files.published, "published")
    frame = table.collect(wanted)
    frame = frame.with_columns(as_ids(frame["id"], "data.items").alias("id"))
    table.require(frame, "id", pl.col("id").is_not_null(), "an id in every row")
    table.require(frame, "id", pl.col("id").is_unique(), "one row an item")
    for name in [n for n in frame.columns if n.startswith("vector.")]:
        frame = _with_vectors(table, frame, name)
    if files.published:
        times = to_milliseconds(frame["published"], "", zone)[0]
        unread = frame.filter(times.is_null() & frame["published"].is_not_null())
        if unread.height:
            raise table.refused(unread, "published", "a day or a time, or nothing")
        frame = frame.with_columns(times.round().cast(pl.Int64).alias("published"))
        frame = frame.with_columns(published=local_days(pl.col("published"), zone)[0])
    return frame, table


def categories_of(files: ItemTable) -> dict[str, Category]:
    """The categories that the config names."""
    found = {}
    for name, value in named(files.categories, "data.items.categories").items():
        settings = {"value": value} if isinstance(value, str) else dict(value or {})
        category = typed(Category, settings, f"data.items.categories.{name}")
        category.value = category.value or name
        found[name] = category
    return found


def item_content(frame: pl.DataFrame | None, ids: IdMap, files: ItemTable) -> ItemContent:
    """The table in the order of the catalogue's rows; `ids` may hold items that it lacks."""
    listed = frame if frame is not None else pl.DataFrame({"id": ids.table["id"]})
    by_row = ids.table.select("id").join(listed, on="id", how="left", maintain_order="left")
    content = ItemContent(
        ids=ids,
        numbers=_numbers(by_row, files),
        codes={},
        sizes={},
        words={},
        groups={},
        published_day=None,
        num_listed=listed.height,
    )
    for name, category in categories_of(files).items():
        _add_category(content, name, category, by_row[f"category.{name}"])
    for name in [n for n in by_row.columns if n.startswith("tag.")]:
        _add_tags(content, name.removeprefix("tag."), by_row[name], files.max_tags)
    if "published" in by_row.columns:
        content.published_day = _filled(by_row["published"], "published")
    return content


def _numbers(by_row: pl.DataFrame, files: ItemTable) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name in [n for n in by_row.columns if n.startswith("number.")]:
        values, short = by_row[name].cast(pl.Float64, strict=False), name[7:]
        if values.null_count() > by_row[name].null_count():
            lost = by_row.filter(values.is_null() & by_row[name].is_not_null())
            raise SchemaError(
                f"data.items.numbers.{short} has a value that is no number",
                got=f"{lost[name][0]!r} of item {lost['id'][0]!r} ({lost.height} such items)",
                mend="name it in data.items.categories, or cast it by an SQL expression",
            )
        values = values.fill_nan(None)
        if values.is_infinite().any():
            raise SchemaError(
                f"data.items.numbers.{short} is infinite",
                got=f"item {by_row.filter(values.is_infinite())['id'][0]!r}",
            )
        found[short] = _filled(values, short)
        if values.null_count():
            found[f"{short}_missing"] = values.is_null().cast(pl.Float64).to_numpy()
    for name in [n for n in by_row.columns if n.startswith("vector.")]:
        matrix_NV = _matrix(by_row[name])
        found |= {f"{name[7:]}_{v}": matrix_NV[:, v] for v in range(matrix_NV.shape[1])}
    return found


def _filled(values: pl.Series, name: str) -> np.ndarray:
    """[N] float64, the median where missing."""
    median = values.median()
    if not isinstance(median, (int, float)):
        raise SchemaError(f"data.items: {name} holds no value at all", mend="leave it out")
    return values.fill_null(float(median)).cast(pl.Float64).to_numpy()


def _matrix(vectors: pl.Series) -> np.ndarray:
    """[N, V] float64; items without a vector get the mean of the others."""
    length = int(vectors.drop_nulls().list.len()[0])
    matrix_NV = np.full((len(vectors), length), np.nan)
    given = vectors.is_not_null().to_numpy()
    matrix_NV[given] = np.stack(vectors.drop_nulls().to_list())
    matrix_NV[~given] = matrix_NV[given].mean(axis=0)
    return matrix_NV


def _with_vectors(table: Table, frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """`name` as lists of Float64 of one length; text such as "[1, 2]" is parsed."""
    column, dtype = pl.col(name), frame.schema[name]
    if dtype == pl.String:
        text = column.str.strip_chars().str.strip_chars("[]()").str.strip_chars()
        split = text.str.replace_all(r"[,;\s]+", ",").str.split(",")
        parsed = split.list.eval(pl.element().cast(pl.Float64, strict=False))
        cast = frame.with_columns(parsed.alias("_cast"))
        bad = cast.filter(pl.col("_cast").list.eval(pl.element().is_null()).list.any())
        if bad.height:
            raise table.refused(bad, name, "numbers in brackets, such as [0.5, 1.0]")
        frame = cast.with_columns(pl.col("_cast").alias(name)).drop("_cast")
    elif isinstance(dtype, (pl.List, pl.Array)):
        frame = frame.with_columns(column.cast(pl.List(pl.Float64)))
    else:
        raise SchemaError(
            f"data.items.vectors.{name[7:]} is no list", got=dtype, expected="lists or text [1, 2]"
        )
    given = frame.filter(column.is_not_null())
    if not given.height:
        raise SchemaError(f"data.items.vectors.{name[7:]} holds no vector", mend="leave it out")
    length = given[name].list.len().mode()[0]
    ragged = given.filter(column.list.len() != length)
    if ragged.height:
        raise table.refused(ragged, name, f"{length} numbers, as in most rows")
    finite = column.list.eval(pl.element().is_finite().fill_null(False)).list.all()
    table.require(given, name, finite, "finite numbers")
    return frame


def _add_category(content: ItemContent, name: str, category: Category, values: pl.Series) -> None:
    if values.dtype.is_float() and bool((values.drop_nulls() % 1 == 0).all()):
        values = values.cast(pl.Int64)
    text = values.cast(pl.String).replace("", None)
    _, dense = np.unique(text.fill_null("\0").to_numpy(), return_inverse=True)
    content.groups[name] = dense.astype(np.int64)
    if category.size:
        codes = values.cast(pl.Int64, strict=False)
        bad = codes.is_null() | (codes < 0) | (codes >= category.size)
        if bad.any():
            raise SchemaError(
                f"data.items.categories.{name} has a value that is no code",
                got=f"{values.filter(bad)[0]!r} ({int(bad.sum())} such items)",
                expected=f"integers in [0, {category.size})",
            )
        content.codes[name], content.sizes[name] = codes.to_numpy(), category.size
    elif category.buckets:
        hashed = hash_int64(torch.from_numpy(hash_keys(text)), _BUCKET_SALT)
        bucket = (torch.remainder(hashed, category.buckets) + 1).numpy()
        content.codes[name] = np.where(text.is_null().to_numpy(), 0, bucket)
        content.sizes[name] = category.buckets + 1
    else:
        words = category.words or _vocabulary(values)
        content.codes[name] = _codes(text, words)
        content.sizes[name], content.words[name] = len(words) + 1, words


def _vocabulary(values: pl.Series) -> list[str]:
    """Distinct values in order: numbers by size, text by its letters; "" is none."""
    ordered = values.drop_nulls().unique().sort().cast(pl.String)
    return [word for word in ordered.to_list() if word]


def _codes(text: pl.Series, words: list[str]) -> np.ndarray:
    """[N] int64: 1 + the place in `words`; 0 where it is none of them or missing."""
    places = {word: code for code, word in enumerate(words, start=1)}
    return np.array([places.get(value, 0) for value in text.to_list()], dtype=np.int64)


def _add_tags(content: ItemContent, name: str, values: pl.Series, most: int) -> None:
    """One 0/1 number for each of the `most` frequent tags."""
    if values.dtype == pl.String:
        values = values.str.strip_chars("[]").str.split(_separator(values))
    if not isinstance(values.dtype, pl.List):
        raise SchemaError(
            f"data.items.tags.{name} is no list",
            got=values.dtype,
            expected="lists, or text a,b or a|b or a;b",
        )
    lists = values.cast(pl.List(pl.String)).list.eval(pl.element().str.strip_chars(" '\""))
    counts = lists.explode().drop_nulls().value_counts(sort=True)
    words = sorted(w for w in counts.head(most)[counts.columns[0]].to_list() if w)
    for word in words:
        has = lists.list.contains(word).fill_null(False)
        content.numbers[f"{name}_{word}"] = has.cast(pl.Float64).to_numpy()
    content.words[name] = words


def _separator(values: pl.Series) -> str:
    """What parts the tags of text: the bar or semicolon that more values have than a comma."""
    has = {mark: values.str.contains(mark, literal=True).sum() or 0 for mark in (",", "|", ";")}
    return max(has, key=lambda mark: has[mark])


def dated(content: ItemContent, first_day: int, num_days: int) -> dict[str, np.ndarray]:
    """Name -> [D, N]: content, and age on each day."""
    shape = (num_days, len(content.ids))
    found = {name: np.broadcast_to(value_N, shape) for name, value_N in content.numbers.items()}
    if content.published_day is not None:
        days_D1 = first_day + np.arange(num_days)[:, None]
        found["log_age_days"] = np.log1p(np.maximum(days_D1 - content.published_day, 0))
    return found


def catalogue_of(
    dense: Mapping[str, np.ndarray], content: ItemContent, train_DN: np.ndarray, standardise: bool
) -> tuple[TableCatalogue, dict[str, Any]]:
    """The catalogue, and its scalings and vocabularies for the manifest.

    Args:
        dense: name -> [D, N], not yet standardised.
        content: the items.
        train_DN: how many training events each item has in each snapshot; they standardise.
        standardise: False where the features are standardised already.
    """
    scalings = {name: Scaling.of_counts(value_DN, train_DN) for name, value_DN in dense.items()}
    if not standardise:
        scalings = {name: Scaling(mean=0.0, std=1.0) for name in dense}
    columns = [_scaled(scalings[n], v, standardise) for n, v in dense.items()]
    codes = list(content.codes.values())
    num_items, num_days = len(content.ids), next((v.shape[0] for v in dense.values()), 1)
    dense_DNF = np.stack(columns, -1) if columns else np.zeros((num_days, num_items, 0), np.float32)
    codes_NC = np.stack(codes, -1) if codes else np.zeros((num_items, 0), np.int64)
    catalogue = TableCatalogue(
        torch.from_numpy(dense_DNF),
        torch.from_numpy(codes_NC),
        dense_names=list(dense),
        categorical_names=list(content.codes),
        vocab_sizes=list(content.sizes.values()),
    )
    kept = {name: asdict(scaling) for name, scaling in scalings.items()}
    return catalogue, {"item_scaling": kept, "vocabularies": content.words}


def _scaled(scaling: Scaling, values: np.ndarray, standardise: bool) -> np.ndarray:
    return scaling.apply(values) if standardise else values.astype(np.float32)
