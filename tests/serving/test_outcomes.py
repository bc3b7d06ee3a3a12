"""Late, lost, early, unknown and repeated outcomes; and the sessions that the others make."""

from __future__ import annotations

import math

import polars as pl
import pytest

from recomind.data.sessions import checked_events
from recomind.errors import SchemaError
from recomind.serving.decisions import SCHEMA
from recomind.serving.outcomes import JoinConfig, JoinCounts, join_outcomes
from tests.data.conftest import small_catalogue

TASKS, NAMES = ("click", "hide"), ("age", "rate")
CONFIG = JoinConfig(limit_s=100.0, skew_s=5.0, session_gap_s=60.0)


def decision(id_: str, user: int, time_s: float, *, session: str = "", item: int = 3):
    return {
        "decision_id": id_,
        "request_id": "",
        "time_ms": round(1000 * time_s),
        "session_id": session,
        "user_id": user,
        "step": 0,
        "gap_s": 0.0,
        "user_features": [0.5, -1.0],
        "pool_item_id": [item],
        "pool_log_propensity": [0.0],
        "pool_score": [1.0],
        "pool_supported": [True],
        "item_id": item,
        "shown_item_id": [item],
        "log_propensity": math.log(0.25),
        "explored": False,
        "arm": "policy",
        "scorer": "abc",
    }


def outcome(id_: str, time_s: float, *, click: int = 0, hide: int = 0, dwell_s: float = 1.0):
    return {
        "decision_id": id_,
        "time_ms": round(1000 * time_s),
        "click": click,
        "hide": hide,
        "dwell_s": dwell_s,
    }


def join(decisions, outcomes, now_s=1000.0):
    frame, counts = join_outcomes(
        pl.DataFrame(decisions, schema=SCHEMA),
        pl.DataFrame(outcomes),
        tasks=TASKS,
        user_feature_names=NAMES,
        now_ms=round(1000 * now_s),
        config=CONFIG,
    )
    return checked_events(frame, small_catalogue(), tasks=TASKS), counts


def test_events_are_sessions_that_may_be_written():
    decisions = [
        decision("a", 1, 0),
        decision("b", 1, 10, item=4),
        decision("c", 1, 200),
        decision("d", 2, 5),
    ]
    outcomes = [outcome(each["decision_id"], each["time_ms"] / 1000 + 1) for each in decisions]
    frame, counts = join(decisions, outcomes)
    assert frame["history_id"].to_list() == [1, 1, 1, 2]
    assert frame["position"].to_list() == [0, 1, 0, 0]
    assert frame["session_id"].n_unique() == 3
    assert frame["left"].to_list() == [False, True, True, True]
    assert frame["propensity"].to_list() == pytest.approx([0.25] * 4)
    assert frame["u_rate"].to_list() == [-1.0] * 4
    assert counts == JoinCounts(decisions=4, joined=4, outcomes=4)


def test_a_session_that_may_go_on_has_no_known_end():
    frame, _ = join(
        [decision("a", 1, 0), decision("b", 1, 10)], [outcome("a", 1), outcome("b", 11)], 30
    )
    assert frame["left"].to_list() == [False, False]
    assert frame["left_known"].to_list() == [True, False]


def test_another_name_begins_a_session():
    decisions = [decision("a", 1, 0, session="x"), decision("b", 1, 10, session="y")]
    frame, _ = join(decisions, [outcome("a", 1), outcome("b", 11)])
    assert frame["position"].to_list() == [0, 0]


def test_several_outcomes_of_a_decision_are_one():
    outcomes = [outcome("a", 2, click=1, dwell_s=3.0), outcome("a", 1, hide=1, dwell_s=7.0)]
    frame, counts = join([decision("a", 1, 0), decision("a", 1, 0)], outcomes)
    assert frame.select("click", "hide", "dwell_s").rows() == [(1, 1, 7.0)]
    assert (counts.decisions, counts.joined, counts.outcomes) == (1, 1, 2)


def test_what_does_not_fit_is_counted():
    decisions = [
        decision(id_, 1, time) for id_, time in zip("abcde", (0, 1, 2, 950, 3), strict=True)
    ]
    outcomes = [outcome("a", 101), outcome("b", -10), outcome("zz", 5), outcome("c", -2)]
    frame, counts = join(decisions, outcomes)
    assert frame.height == 1  # c: its clock is behind by less than the skew
    assert counts == JoinCounts(
        decisions=5, joined=1, pending=1, without_outcome=3, outcomes=4, unknown=1, late=1, early=1
    )


@pytest.mark.parametrize(
    "change",
    [{"click": 2}, {"dwell_s": -1.0}, {"dwell_s": math.nan}, {"time_ms": None}, {"click": "x"}],
)
def test_an_outcome_that_is_none_is_refused(change):
    with pytest.raises(SchemaError, match="outcome"):
        join([decision("a", 1, 0)], [outcome("a", 1) | change])


def test_a_column_that_is_absent_is_named():
    with pytest.raises(SchemaError, match="hide"):
        join(
            [decision("a", 1, 0)], [{"decision_id": "a", "time_ms": 1, "click": 1, "dwell_s": 1.0}]
        )
