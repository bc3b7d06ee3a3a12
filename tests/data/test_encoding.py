"""Raw columns of a request become the features that training saw."""

from __future__ import annotations

import datetime
import json
import math
from zoneinfo import ZoneInfo

import jsonschema
import numpy as np
import polars as pl
import pytest

from recomind.artifacts import read_manifest
from recomind.data import FeatureScaling
from recomind.data.encoding import FeatureEncoding, ms_of_day
from recomind.errors import ArtifactError, SchemaError
from tests.data.raw_columns import columns_of, prepared

ENCODING = FeatureEncoding(
    categories={"device": {"car": "device_car", "phone": "device_phone"}, "rare": {}},
    gaps={"age": {"fill": 41.0, "missing": "age_missing"}},
    clock="Europe/Berlin",
)
FEATURES = ["rate", "age", "age_missing", "hour_sin", "hour_cos", "device_car", "device_phone"]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    return folder, *prepared(folder)


def test_every_row_of_the_log_becomes_what_training_saw(log):
    folder, raw, logs = log
    extra = read_manifest(folder / "sessions").extra
    encoding = FeatureEncoding.from_json(extra["user_encoding"])
    assert encoding.gaps.keys() == {"battery", "age"}
    assert list(encoding.categories["level"]) == ["1", "2", "3"]
    assert "fridge" not in encoding.categories["device"]
    scalings = FeatureScaling.load(folder / "sessions").scalings
    seen = pl.DataFrame(logs.frame.lazy().collect()).sort("time_ms")
    assert seen["time_ms"].to_list() == raw["ts"].to_list()
    for row, trained in zip(raw.to_dicts(), seen.to_dicts(), strict=True):
        made = encoding.encode(columns_of(row), row["ts"])
        assert set(encoding.names_for(made)) == {*columns_of(row), "time"}
        for name, value in made.items():
            expected = trained[f"u_{name}"]
            assert scalings[name].apply(np.array(value)) == pytest.approx(expected, abs=1e-6), name
    absent = {name[2:] for name in seen.columns if name.startswith("u_")} - made.keys()
    assert all(
        "rate" in n or "log_" in n or n.startswith(("recent", "last", "mean")) for n in absent
    )


def test_a_log_without_a_clock_or_categories_has_nothing_to_encode(tmp_path):
    _, logs = prepared(tmp_path, clock=False, users={"categories": None})
    assert logs.facts["user_encoding"]["clock"] == ""
    assert "country" not in logs.facts["user_encoding"]["categories"]


@pytest.mark.parametrize("word", ["boat", "", None, 3, 7.5, True])
def test_a_value_that_training_did_not_know_is_none_of_them(word):
    assert ENCODING.encode({"device": word}) == {"device_car": 0.0, "device_phone": 0.0}


def test_numbers_are_the_words_that_a_column_of_integers_has():
    encoding = FeatureEncoding(categories={"level": {"1": "level_1", "true": "yes"}})
    for value, made in ((1, (1, 0)), (1.0, (1, 0)), ("1", (1, 0)), (True, (0, 1)), (1.5, (0, 0))):
        assert tuple(encoding.encode({"level": value}).values()) == made, value


def test_a_gap_is_filled_as_in_training():
    assert ENCODING.encode({"age": None}) == {"age": 41.0, "age_missing": 1.0}
    assert ENCODING.encode({"age": 30}) == {"age": 30, "age_missing": 0.0}
    assert ENCODING.encode({"age": 30, "age_missing": 1}) == {"age": 30, "age_missing": 1}


def test_a_moment_is_the_same_time_of_day_however_it_is_written():
    moment = datetime.datetime(2026, 7, 1, 18, 30, 5, 250_000, ZoneInfo("Europe/Berlin"))
    same = [
        round(moment.timestamp() * 1000),
        float(round(moment.timestamp() * 1000)),
        "2026-07-01T16:30:05.250Z",
        "2026-07-01 18:30:05.25",
        "2026-07-01T12:30:05.250-04:00",
    ]
    for time in same:
        assert ms_of_day(time, "Europe/Berlin") == ((18 * 60 + 30) * 60 + 5) * 1000 + 250, time
    made = ENCODING.encode({}, "2026-01-01T06:00:00")
    assert made == {"hour_sin": 1.0, "hour_cos": pytest.approx(0.0, abs=1e-12)}


@pytest.mark.parametrize(
    "time", [True, "noon", [], 1e300, -1, math.nan, "0001-01-01T00:00:00+14:00"]
)
def test_what_is_no_time_is_refused(time):
    with pytest.raises(SchemaError, match=r"time; got: .*milliseconds since 1970"):
        ms_of_day(time, "Asia/Tokyo")


def test_seconds_are_named_as_the_mistake():
    with pytest.raises(SchemaError, match="seconds are times 1000"):
        ENCODING.encode({}, 1_760_000_000)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"device": "car", "device_phone": 0.0}, "'device_phone' is given raw and as a feature"),
        ({"device": ["car"]}, "user_features.device; got"),
        ({"hour_sin": 0.0}, "'hour_sin' is given raw"),
    ],
)
def test_what_says_a_thing_twice_or_is_no_value_is_refused(raw, message):
    with pytest.raises(SchemaError, match=message):
        ENCODING.encode(raw, "2026-01-01T06:00:00")


def test_columns_that_features_or_other_columns_are_called_by_are_left_out():
    words = {"context.a": ["x"], "category.a": ["y"], "context.b": ["z"], "context.c": ["w"]}
    encoding = FeatureEncoding.of(words, {"number.n": 1.0}, "", ["a_x", "a_y", "b", "c_w", "n"])
    assert encoding == FeatureEncoding(categories={"c": {"w": "c_w"}})


def test_it_goes_through_json():
    kept = json.loads(json.dumps(ENCODING.to_json()))
    assert FeatureEncoding.from_json(kept) == ENCODING


@pytest.mark.parametrize(
    "kept",
    [
        [],
        {"categories": {}},
        {"categories": {"a": 3}, "gaps": {}, "clock": ""},
        {"categories": {}, "gaps": {"a": {"fill": "x"}}, "clock": ""},
        {"categories": {}, "gaps": {}, "clock": "Mars/Base"},
    ],
)
def test_what_is_no_encoding_is_refused(kept):
    with pytest.raises(ArtifactError, match="not an encoding of raw columns"):
        FeatureEncoding.from_json(kept)


RAW = {"rate": 0.1, "age": None, "device": "car", "rare": 9}
MADE = {"device_car": 1, "device_phone": 0, "age_missing": 0}


@pytest.mark.parametrize(
    ("request_", "is_valid"),
    [
        ({"user_features": RAW, "time": 1_760_000_000_000}, True),
        ({"user_features": RAW, "time": "2026-01-01T06:00:00"}, True),
        ({"user_features": RAW | {"hour_sin": 1, "hour_cos": 0}}, True),
        ({"user_features": {"rate": 0, "age": 3, **MADE}, "time": "2026-01-01T06:00:00"}, True),
        ({"user_features": RAW}, False),
        ({"user_features": RAW, "time": 1_760_000_000}, False),
        ({"user_features": RAW | {"hour_sin": 1, "hour_cos": 0}, "time": "2026-01-01"}, False),
        ({"user_features": RAW | MADE, "time": "2026-01-01"}, False),
        ({"user_features": {"rate": 0.1, "age": 3}, "time": "2026-01-01"}, False),
        ({"user_features": RAW | {"device": ["car"]}, "time": "2026-01-01"}, False),
    ],
)
def test_the_schema_says_what_is_taken(request_, is_valid):
    number = {"type": "number"}
    schema = {
        "properties": {
            "user_features": ENCODING.schema(FEATURES, number),
            "time": {"type": ["integer", "string"], "minimum": 1e11},
        }
    } | ENCODING.time_rule()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert jsonschema.Draft202012Validator(schema).is_valid(request_) == is_valid
