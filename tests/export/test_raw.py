"""The ids and the scaling that an export carries are those of the sessions it was trained on."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recomind.artifacts import Manifest, write_artifact
from recomind.data import IdMap
from recomind.data.encoding import FeatureEncoding
from recomind.data.sources.table.source import ITEM_IDS
from recomind.errors import ArtifactError
from recomind.export import RawInputs, read_raw_inputs
from recomind.export.raw import _ITEM_IDS
from recomind.serving.company import CompanyNames

AGE = {"age": {"mean": 40.0, "std": 12.5}}


def sessions(folder: Path, scaling: dict, ids: IdMap | None = None) -> Path:
    with write_artifact(folder, Manifest(kind="sessions", extra={"user_scaling": scaling})) as at:
        if ids is not None:
            ids.table.write_parquet(at / ITEM_IDS)
    return folder


def test_ids_stand_at_their_rows(tmp_path):
    ids = IdMap(pl.Series(["b", "a", "c"]), pl.Series([2, 0, 1]))
    raw = read_raw_inputs(sessions(tmp_path / "sessions", AGE, ids))
    assert raw.ids(3) == ["a", "c", "b"]
    assert raw.scaling_of("age") == AGE["age"]
    assert raw.limit == 8.0


def test_items_of_a_world_are_their_rows_and_nothing_is_scaled(tmp_path):
    with write_artifact(tmp_path / "sessions", Manifest(kind="sessions")):
        pass
    raw = read_raw_inputs(tmp_path / "sessions")
    assert raw == RawInputs()
    assert raw.ids(3) == [0, 1, 2]
    assert raw.scaling_of("age") == {"mean": 0.0, "std": 1.0}
    assert raw.limit is None


def test_features_that_came_standardised_are_not_clipped(tmp_path):
    plain = {"age": {"mean": 0.0, "std": 1.0}}
    assert read_raw_inputs(sessions(tmp_path / "sessions", plain)).limit is None


def test_what_raw_columns_become_goes_from_the_sessions_into_the_scorer(tmp_path):
    encoding = FeatureEncoding(gaps={"age": {"fill": 3.0, "missing": "age_missing"}}, clock="UTC")
    extra = {"user_scaling": AGE, "user_encoding": encoding.to_json()}
    with write_artifact(tmp_path / "sessions", Manifest(kind="sessions", extra=extra)):
        pass
    raw = read_raw_inputs(tmp_path / "sessions")
    assert raw == RawInputs(scaling=AGE, encoding=encoding)
    told = raw.save(tmp_path)
    assert CompanyNames.load(tmp_path, told).encoding == encoding


def test_an_unreadable_map_is_an_error(tmp_path):
    folder = sessions(tmp_path / "sessions", AGE, IdMap(pl.Series(["a"])))
    (folder / _ITEM_IDS).write_bytes(b"no parquet")
    with pytest.raises(ArtifactError, match="unreadable map of ids"):
        read_raw_inputs(folder)
