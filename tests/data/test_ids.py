from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recomind.artifacts import Manifest
from recomind.data import FeatureScaling, IdMap, make_source, write_sessions
from recomind.data.ids import as_ids, hash_keys
from recomind.errors import ArtifactError, SchemaError
from tests.data.conftest import small_catalogue, small_events
from tests.data.feed import feed_settings, feed_users, write_feed, write_logs

KINDS = {
    "text": ["b", "a", "c d"],
    "UUIDs": ["9f1c2d3e-0000-4000-8000-000000000001", "0a1c2d3e-0000-4000-8000-00000000000f"],
    "integers": [30, 4, 500],
    "uint64": pl.Series([2**64 - 1, 2**63, 1], dtype=pl.UInt64),
    "signed hashes": [-(2**63), 2**63 - 1, 0],
    "bytes": [b"\x00\xff", b"\x01"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_id_becomes_a_row_and_comes_back(kind: str, tmp_path: Path) -> None:
    given = pl.Series("id", KINDS[kind])
    ids = IdMap.of(as_ids(given, "here"))
    rows = ids.rows(given)
    assert sorted(rows.tolist()) == list(range(len(given)))
    assert ids.ids(rows).to_list() == as_ids(given, "here").to_list()
    ids.table.write_parquet(tmp_path / "ids.parquet")
    assert IdMap.load(tmp_path / "ids.parquet").rows(given).tolist() == rows.tolist()


def test_integers_may_stand_for_themselves() -> None:
    text = pl.Series(["30", "4", "500"])
    assert IdMap.of(text, keep_integers=True).rows([4, 500, 7]).tolist() == [4, 500, -1]
    assert IdMap.of(pl.Series(["007", "4"]), keep_integers=True).rows(["007"]).tolist() == [1]


def test_a_number_and_its_text_are_one_id_and_hash_alike() -> None:
    assert IdMap.of(pl.Series(["17", "4"])).rows([17]).tolist() == [1]
    keys = hash_keys(pl.Series(["17", "u17", "x", None, "x"]))
    assert keys[0] == keys[1] == 17
    assert keys[2] == keys[4] > 0
    assert keys[3] == -1


def test_floats_that_are_integers_are_ids_and_others_are_not() -> None:
    assert as_ids(pl.Series([1.0, None, 3.0]), "here").to_list() == ["1", None, "3"]
    for bad in ([1.5], [2.0**60]):
        with pytest.raises(SchemaError, match="holds fractions, or integers rounded to them"):
            as_ids(pl.Series(bad), "here")


def test_text_that_was_a_float_is_no_id_and_a_hexadecimal_one_is() -> None:
    assert as_ids(pl.Series(["3e12", "1E05", "7e9"]), "here").to_list() == ["3e12", "1E05", "7e9"]
    for bad in ("1.5e+18", "1.5e18", "2E+18"):
        with pytest.raises(SchemaError, match="integers rounded to them"):
            as_ids(pl.Series(["u1", bad]), "here")


def test_a_map_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ids.parquet").write_bytes(b"no parquet")
    with pytest.raises(ArtifactError, match="unreadable map of ids"):
        IdMap.load(tmp_path / "ids.parquet")


def written(folder: Path) -> pl.DataFrame:
    logs = make_source(feed_settings(write_feed(folder))).read()
    write_logs(folder / "sessions", logs)
    return pl.read_parquet(folder / "sessions" / "sessions.parquet")


def test_the_artifact_speaks_the_companys_ids_and_raw_features(tmp_path: Path) -> None:
    frame = written(tmp_path)
    users = IdMap.load(tmp_path / "sessions" / "user_ids.parquet")
    scaling = FeatureScaling.load(tmp_path / "sessions")
    column = list(scaling.scalings).index("age")
    for name, age in feed_users().select("uid", "age").head(3).rows():
        (row,) = users.rows([name])
        seen = frame.filter(user_id=row)["u_age"][0]
        assert scaling.apply({"age": age})[column] == pytest.approx(seen, abs=1e-6)
    assert scaling.apply({})[column] == 0.0


def test_raw_features_are_checked(tmp_path: Path) -> None:
    written(tmp_path)
    scaling = FeatureScaling.load(tmp_path / "sessions")
    with pytest.raises(SchemaError, match=r"unknown user feature; got: agee.*'age'"):
        scaling.apply({"agee": 3.0})
    with pytest.raises(SchemaError, match="'age' is not finite"):
        scaling.apply({"age": np.nan})


def test_sessions_of_a_world_keep_no_scaling(tmp_path: Path) -> None:
    write_sessions(
        tmp_path / "sessions",
        small_events(),
        small_catalogue(),
        tasks=["click", "hide"],
        manifest=Manifest(kind="sessions"),
    )
    with pytest.raises(ArtifactError, match="without a scaling"):
        FeatureScaling.load(tmp_path / "sessions")
