"""Numbers that a catalogue store must keep or refuse, never wrap."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

from recomind.data import CatalogueStore, StoreFormat, add_items, create_catalogue_store
from recomind.errors import ArtifactError, ConfigError, SchemaError


def store(folder: Path, frame: pl.DataFrame, **form: object) -> CatalogueStore:
    given: dict = {"dense_names": [], "categorical_names": [], "vocab_sizes": []} | form
    create_catalogue_store(folder / "store", StoreFormat(**given))
    frame.write_parquet(folder / "items.parquet")
    return add_items(folder / "store", folder / "items.parquet")


@pytest.mark.parametrize("code", [2**31 - 1, 2**31, 2**32 + 7, 2**40])
def test_codes_beyond_int32_stay_what_they_are(tmp_path: Path, code: int) -> None:
    frame = pl.DataFrame({"item_id": [0, 1], "author": [7, code]})
    made = store(tmp_path, frame, categorical_names=["author"], vocab_sizes=[code + 1])
    assert made.features(torch.tensor([0, 1])).categorical.tolist() == [[7], [code]]


def test_a_store_of_small_vocabularies_is_as_narrow_as_before() -> None:
    form = StoreFormat(dense_names=[], categorical_names=["a"], vocab_sizes=[2**31])
    assert form.columns("items")["categorical"] == ("<i4", 1)


@pytest.mark.parametrize("size", [2**63, 2**70])
def test_a_vocabulary_that_no_code_can_have_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="vocabulary"):
        StoreFormat(dense_names=[], categorical_names=["a"], vocab_sizes=[size])


@pytest.mark.parametrize("column", ["item_id", "author"])
def test_unsigned_numbers_beyond_int64_are_refused(tmp_path: Path, column: str) -> None:
    frame = pl.DataFrame(
        {"item_id": [0, 1], "author": [0, 1]}, schema={"item_id": pl.UInt64, "author": pl.UInt64}
    )
    frame = frame.with_columns(pl.lit(2**63 + 1, dtype=pl.UInt64).alias(column))
    with pytest.raises(SchemaError, match=rf"'{column}'.*9223372036854775809 in row 0"):
        store(tmp_path, frame, categorical_names=["author"], vocab_sizes=[9])


@pytest.mark.parametrize(
    ("values", "got"),
    [
        (["[1,2]", "[3,4]"], r"'\[1,2\]' in row 0"),
        ([7, 8], "7 in row 0"),
        ([[1.0, 2.0], [3.0, None]], r"\[3.0, None\] in row 1"),
        ([["a", "b"], ["c", "d"]], "row 0"),
        ([[[1.0], [2.0]], [[3.0], [4.0]]], "row 0"),
        ([{"x": 1.0}, {"x": 2.0}], "row 0"),
    ],
)
def test_vectors_of_another_type_name_column_and_row(
    tmp_path: Path, values: list, got: str
) -> None:
    frame = pl.DataFrame({"item_id": [0, 1], "embedding": values})
    with pytest.raises(SchemaError, match=rf"'embedding'.*{got}"):
        store(tmp_path, frame, embedding_dim=2)


def test_vectors_of_integers_and_arrays_are_taken(tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": [0, 1], "embedding": [[1, 2], [3, 4]]})
    frame = frame.with_columns(pl.col("embedding").cast(pl.Array(pl.Int64, 2)))
    made = store(tmp_path, frame, embedding_dim=2)
    assert made.embeddings(torch.tensor([0, 1])).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_dense_column_of_text_names_its_first_value(tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": [0, 1], "x": ["a", "b"]})
    with pytest.raises(SchemaError, match=r"'x'.*'a' in row 0"):
        store(tmp_path, frame, dense_names=["x"])


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """A store of three versions."""
    form = StoreFormat(dense_names=["x"], categorical_names=[], vocab_sizes=[])
    create_catalogue_store(tmp_path / "store", form)
    for ids in ([0, 1], [2, 3]):
        pl.DataFrame({"item_id": ids, "x": [0.5, 1.5]}).write_parquet(tmp_path / "i.parquet")
        add_items(tmp_path / "store", tmp_path / "i.parquet")
    CatalogueStore(tmp_path / "store").verify()
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("versions/00000002.json", '"items": 4', '"items": 3'),
        ("versions/00000001.json", '"items": 2', '"items": 1'),
        ("versions/00000002.json", '"begin": 8', '"begin": 0'),
        ("CURRENT.json", '"version": 2', '"version": 1'),
        ("CURRENT.json", '"digest": "', '"digest": "0'),
        ("CURRENT.json", '"digest"', '"gone"'),
        ("CURRENT.json", '"version"', '"more": 1, "version"'),
        ("format.json", '"x"', '"y"'),
    ],
)
def test_versions_that_were_changed_are_found(grown: Path, file: str, old: str, new: str) -> None:
    text = (grown / file).read_text()
    assert old in text
    (grown / file).write_text(text.replace(old, new, 1))
    with pytest.raises(ArtifactError, match=r"damaged|unreadable"):
        CatalogueStore(grown).verify()
