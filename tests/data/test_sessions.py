from __future__ import annotations

import polars as pl
import pytest

from recomind.artifacts import Manifest, read_manifest
from recomind.data import TableCatalogue, write_sessions
from recomind.data.sessions import EVENTS
from recomind.errors import SchemaError
from tests.data.conftest import small_catalogue, small_events

TASKS = ("click", "hide")


def write(folder, frame):
    write_sessions(
        folder,
        frame,
        small_catalogue(),
        tasks=TASKS,
        manifest=Manifest(kind="sessions"),
        extra={"num_repeats": 3},
    )


def test_events_are_written_in_order_with_their_catalogue(tmp_path):
    frame = small_events()
    write(tmp_path / "sessions", frame.sample(fraction=1.0, shuffle=True, seed=1))
    manifest = read_manifest(tmp_path / "sessions", "sessions")
    assert pl.read_parquet(tmp_path / "sessions" / EVENTS).equals(frame.select(_order(frame)))
    assert TableCatalogue.load(tmp_path / "sessions").num_items == 10
    assert manifest.extra["tasks"] == list(TASKS)
    assert manifest.extra["user_feature_names"] == ["age", "rate"]
    assert manifest.extra["num_repeats"] == 3
    assert manifest.extra["num_events"] == frame.height
    assert manifest.extra["num_sessions"] == (frame["position"] == 0).sum()


def _order(frame):
    features = [n for n in frame.columns if n.startswith("u_")]
    rest = [n for n in frame.columns if n not in (*TASKS, *features)]
    return [*rest, *TASKS, *features]


def put(column, value, dtype=None, row=4):
    def change(frame):
        kind = dtype or frame.schema[column]
        values = frame[column].to_list()
        values[row] = value
        return frame.with_columns(pl.Series(column, values, dtype=kind))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.clear(), "the sessions is empty"),
        (lambda f: f.drop("dwell_s"), "column 'dwell_s' is missing"),
        (lambda f: f.drop("hide"), "column 'hide' is missing"),
        (lambda f: f.cast({"position": pl.Int64}), "'position' of the sessions has the wrong type"),
        (lambda f: f.cast({"u_age": pl.Float64}), "'u_age' of the sessions has the wrong type"),
        (lambda f: f.cast({"click": pl.Int64}), "'click' of the sessions has the wrong type"),
        (put("item_id", 10), r"'item_id'.*got: 10 in row 4 \(1 such rows\).*in \[0, 10\)"),
        (put("item_id", -1), "'item_id'.*got: -1 in row 4"),
        (put("item_id", None), "'item_id'.*got: None in row 4"),
        (put("snapshot", 3), "'snapshot'.*got: 3 in row 4"),
        (put("click", 2), "'click'.*got: 2 in row 4.*0 or 1"),
        (put("dwell_s", -0.5), "'dwell_s'.*got: -0.5 in row 4"),
        (put("dwell_s", float("inf")), "'dwell_s'.*got: inf in row 4"),
        (put("u_rate", float("nan")), "'u_rate'.*got: nan in row 4"),
        (put("propensity", 0.0), "'propensity'.*got: 0.0 in row 4"),
        (put("propensity", 1.5), "'propensity'.*got: 1.5 in row 4"),
        (put("split", "validation"), "'split'.*got: 'validation' in row 4"),
        (put("position", -2), "'position'.*got: -2 in row 4"),
        (
            lambda f: f.with_columns(split=pl.lit("train")),
            "'split'.*'history' where position is -1",
        ),
        (
            lambda f: f.with_columns(left=pl.lit(True), left_known=pl.lit(False)),
            "'left'.*False where left_known is False",
        ),
        (lambda f: f.filter(pl.col("position") != 1), "positions 0, 1, 2, ... without a gap"),
        (lambda f: f.with_columns(time_ms=-pl.col("time_ms")), "in the order of time"),
        (lambda f: f.with_columns(session_id=pl.lit(0, dtype=pl.Int64)), "'session_id'.*one start"),
    ],
)
def test_what_may_not_be_is_refused_and_nothing_is_written(tmp_path, change, message):
    with pytest.raises(SchemaError, match=message):
        write(tmp_path / "sessions", change(small_events()))
    assert list(tmp_path.iterdir()) == []
