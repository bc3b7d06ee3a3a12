"""What a request may hold, what it is refused for, and the state that it becomes."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from recomind.data.encoding import FeatureEncoding
from recomind.errors import SchemaError
from recomind.serving.company import CompanyNames
from recomind.serving.request import states_of
from tests.export.tiny import LENGTH

GOOD = {
    "user_id": 17,
    "user_features": {"hour": 0.5, "age": -1.0, "tenure": 2},
    "step": 1,
    "gap_s": 7,
    "history": [
        {"item_id": 3, "feedback": {"like": True}, "dwell_s": 12.5},
        {"item_id": 4, "feedback": {"watch_10s": True, "hide": False}, "gap_s": 30.5},
    ],
    "item_ids": [8, 15, 16],
}


def without(*names):
    return {k: v for k, v in GOOD.items() if k not in names}


def test_a_request_becomes_a_state(engine):
    state = states_of([engine.schema.parse(GOOD)], engine.schema)
    assert state.user_id.tolist() == [17]
    assert state.user_features.tolist() == [[-1.0, 0.5, 2.0]]
    assert state.history_item_id.tolist() == [[0, 0, 0, 0, 3, 4]]
    assert state.history_mask.tolist() == [[False] * 4 + [True] * 2]
    assert state.history_dwell_s.tolist() == [[0, 0, 0, 0, 12.5, 0]]
    assert state.history_gap_s.tolist() == [[0, 0, 0, 0, 0, 30.5]]
    assert state.gap_s.tolist() == [7]
    assert state.history_feedback[0, 4:].tolist() == [[False, True, False], [True, False, False]]
    assert not state.history_feedback[0, :4].any()
    assert state.in_session.tolist() == [[False] * 5 + [True]]


def test_only_the_latest_events_are_kept(engine):
    long = GOOD | {"history": [{"item_id": n} for n in range(LENGTH + 3)]}
    state = states_of([engine.schema.parse(long)], engine.schema)
    assert state.history_item_id.tolist() == [[3, 4, 5, 6, 7, 8]]


def test_features_may_come_as_a_list_in_order(engine):
    listed = engine.schema.parse(GOOD | {"user_features": [-1.0, 0.5, 2]})
    assert listed.user_features == engine.schema.parse(GOOD).user_features


def test_a_whole_number_may_have_a_point(engine):
    assert engine.schema.parse(GOOD | {"user_id": 17.0, "item_ids": [8.0, 15, 16]}).item_ids == [
        8,
        15,
        16,
    ]


def test_a_user_without_history(engine):
    state = states_of([engine.schema.parse(without("history", "step"))], engine.schema)
    assert state.gap_s.tolist() == [0]  # since no event
    assert not state.history_mask.any()
    assert state.step.tolist() == [0]
    assert state.history_item_id.shape == torch.Size([1, LENGTH])


BAD = [
    (["a"], r"a request; got: list"),
    (GOOD | {"itemids": [1]}, r"unknown 'itemids'.*did you mean 'item_ids'"),
    (without("user_id"), "user_id; got: None; expected: text, or an integer"),
    (GOOD | {"user_id": ""}, "user_id; got: ''; expected: text"),
    (GOOD | {"time": "noon"}, "time; got: 'noon'; expected: milliseconds"),
    (GOOD | {"user_id": -1}, "user_id; got: -1"),
    (GOOD | {"user_id": 2**63}, "user_id"),
    (GOOD | {"user_id": True}, "user_id; got: True"),
    (GOOD | {"user_id": 1.5}, "user_id; got: 1.5"),
    (GOOD | {"step": -1}, "step"),
    (without("user_features"), r"user_features without a value; got: \['age', 'hour', 'tenure'\]"),
    (GOOD | {"user_features": [1.0]}, "user_features; got: 1 numbers"),
    (GOOD | {"user_features": {"age": 1, "hour": 2, "tenur": 3}}, "did you mean 'tenure'"),
    (GOOD | {"user_features": [0, "x", 0]}, r"user_features\.hour.*a finite number"),
    (GOOD | {"user_features": [0, 1e39, 0]}, r"user_features\.hour"),
    (GOOD | {"user_features": [0, 10**400, 0]}, r"user_features\.hour"),
    (GOOD | {"history": {}}, "history; got: dict"),
    (GOOD | {"history": [3]}, "an event; got: int"),
    (GOOD | {"history": [{"item_id": 40}]}, r"item_id; got: 40; expected: an integer in \[0, 39\]"),
    (GOOD | {"history": [{"item_id": 1, "feedback": {"liked": True}}]}, "did you mean 'like'"),
    (GOOD | {"history": [{"item_id": 1, "feedback": {"like": 1}}]}, r"feedback\.like; got: 1"),
    (GOOD | {"history": [{"item_id": 1, "dwell_s": -0.1}]}, "dwell_s; got: -0.1"),
    (GOOD | {"history": [{"item_id": 1, "gap_s": -1}]}, "an event's gap_s; got: -1.0"),
    (GOOD | {"history": [{"item_id": 1, "gap_s": None}]}, "an event's gap_s; got: None"),
    (GOOD | {"gap_s": -1}, "gap_s; got: -1.0; expected: >= 0 seconds"),
    (GOOD | {"gap_s": 1e39}, r"gap_s; got: 1e\+39; expected: a finite number"),
    (GOOD | {"item_ids": []}, "item_ids; got: 0 ids"),
    (GOOD | {"item_ids": list(range(13))}, "item_ids; got: 13 ids; expected: 1 to 12"),
    (GOOD | {"item_ids": [1, 40]}, "item_id; got: 40"),
    (GOOD | {"item_ids": [1, -1]}, "item_id; got: -1"),
    (GOOD | {"item_ids": [1, 2, 1.0]}, "names an item twice; got: 1"),
    (GOOD | {"user_id": 1e300}, "user_id; got: 1000"),
    (GOOD | {"item_ids": "12"}, "item_ids; got: str"),
    (GOOD | {"num": 0}, "num; got: 0"),
    (without("item_ids") | {"num": 13}, r"num; got: 13; expected: an integer in \[1, 12\]"),
    (without("item_ids"), "a request without candidates"),
]


@pytest.mark.parametrize(("payload", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_what_is_wrong_is_named(engine, payload, message):
    engine.schema.parse(GOOD)
    with pytest.raises(SchemaError, match=message):
        engine.schema.parse(payload)


def test_num_needs_a_pool(engine, engine_without_pool):
    request = without("item_ids") | {"num": 3}
    assert engine.schema.parse(request).num == 3
    with pytest.raises(SchemaError, match="start the service with an index"):
        engine_without_pool.schema.parse(request)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"user_id": NaN}',
        b"[" * 100_000,
        b"1" * 5000,
        b'{"user_id": 1, "user_id": 2}',
        rb'{"user_id": "\ud800"}',
        rb'{"\uDFFF": 1}',
        json.dumps(GOOD).encode("utf-16"),
    ],
    ids=[
        "empty",
        "cut",
        "not text",
        "NaN",
        "deep",
        "long number",
        "a key twice",
        "a surrogate",
        "a surrogate as a key",
        "UTF-16",
    ],
)
def test_what_is_no_json_is_refused(engine, body):
    with pytest.raises(SchemaError, match="the body is not JSON"):
        engine.schema.parse_body(body)


def test_a_body_holds_one_request_or_some(engine):
    one, is_list = engine.schema.parse_body(json.dumps(GOOD).encode())
    assert (len(one), is_list) == (1, False)
    three, is_list = engine.schema.parse_body(json.dumps([GOOD] * 3).encode())
    assert (three, is_list) == (one * 3, True)
    for wrong in ([], [GOOD] * 4):
        with pytest.raises(SchemaError, match=f"got: {len(wrong)}; expected: 1 to 3"):
            engine.schema.parse_body(json.dumps(wrong).encode())


MS = 1_769_880_000_000  # 2026-01-31T17:20:00Z


def test_gaps_may_be_left_to_the_times_of_events(engine):
    history = [
        {"item_id": 3, "time": MS},
        {"item_id": 4, "time": "2026-01-31T18:20:30.500+01:00"},
        {"item_id": 5, "time": MS + 99_000, "gap_s": 2},  # what is given as a gap is taken
    ]
    request = without("gap_s") | {"history": history, "time": "2026-01-31T17:21:46"}
    state = states_of([engine.schema.parse(request)], engine.schema)
    assert state.history_gap_s.tolist() == [[0, 0, 0, 0, 30.5, 2]]
    assert state.gap_s.tolist() == [7]
    untimed = [{"item_id": 3}, *history[1:]]
    state = states_of([engine.schema.parse(request | {"history": untimed})], engine.schema)
    assert state.history_gap_s.tolist() == [[0, 0, 0, 0, 0, 2]]


def test_the_first_event_that_is_kept_has_the_gap_to_the_one_before_it(engine):
    long = [{"item_id": n, "time": MS + 1000 * n} for n in range(LENGTH + 3)]
    state = states_of([engine.schema.parse(GOOD | {"history": long})], engine.schema)
    assert state.history_item_id[0, 0] == 3
    assert state.history_gap_s.tolist() == [[1.0] * LENGTH]
    exact = states_of([engine.schema.parse(GOOD | {"history": long[:LENGTH]})], engine.schema)
    assert exact.history_gap_s.tolist() == [[0.0] + [1.0] * (LENGTH - 1)]


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (MS - 1, f"times that go back; got: {MS}, then {MS - 1}"),
        ("yesterday", "time; got: 'yesterday'; expected: milliseconds since 1970"),
        (MS // 1000, "seconds are times 1000"),
    ],
)
def test_times_that_cannot_be_are_refused(engine, later, message):
    history = [{"item_id": 3, "time": MS}, {"item_id": 4, "time": later}]
    with pytest.raises(SchemaError, match=message):
        engine.schema.parse(without("gap_s") | {"history": history})
    with pytest.raises(SchemaError, match=message):
        engine.schema.parse(without("gap_s") | {"history": history[:1], "time": later})


def test_a_gap_is_as_long_as_it_was_when_the_clocks_are_set(engine):
    names = CompanyNames(encoding=FeatureEncoding(clock="Europe/Berlin"))
    schema = dataclasses.replace(engine.schema, names=names)
    history = [{"item_id": 3, "time": "2026-03-29T01:59:00"}]  # at 2 o'clock it is 3
    request = without("gap_s") | {"history": history, "time": "2026-03-29T03:01:00"}
    listed = request | {"user_features": [-1.0, 0.5, 2]}
    assert schema.parse(listed).gap_s == 120.0
