"""Late, lost, early, unknown and repeated outcomes; and the sessions that the others make."""

from __future__ import annotations

import dataclasses
import math

import polars as pl
import pytest

from recomind.data.sessions import checked_events
from recomind.data.sources.served.decisions import SCHEMA
from recomind.data.sources.served.joining import JoinConfig, JoinCounts, join_outcomes
from recomind.data.sources.served.windows import Window
from recomind.errors import SchemaError
from tests.data.conftest import small_catalogue

TASKS, NAMES = ("click", "hide"), ("age", "rate")
CONFIG = JoinConfig(limit_s=100.0, skew_s=5.0, session_gap_s=60.0)


def decision(id_: str, user: int, time_s: float, *, session: str = "", item: int = 3, **more):
    return {
        "decision_id": id_,
        "request_id": "",
        "time_ms": round(1000 * time_s),
        "session_id": session,
        "user_id": user,
        "step": 0,
        "gap_s": 0.0,
        "user_features": [0.5, -1.0],
        "history_item_id": [],
        "history_feedback": [],
        "history_dwell_s": [],
        "history_gap_s": [],
        "pool_item_id": [item],
        "pool_log_propensity": [0.0],
        "pool_score": [1.0],
        "pool_supported": [True],
        "item_id": item,
        "shown_item_id": [item],
        "log_propensity": math.log(0.25),
        "explored": False,
        "arm": "policy",
        "reason": "",
        "scorer": "abc",
        "catalogue": "c",
    } | more


def outcome(id_: str, time_s: float, *, click: int = 0, hide: int = 0, dwell_s: float = 1.0):
    return {
        "decision_id": id_,
        "time_ms": round(1000 * time_s),
        "click": click,
        "hide": hide,
        "dwell_s": dwell_s,
    }


def history(*items: int, click: bool = False, gap_s: float = 0.0):
    return {
        "history_item_id": list(items),
        "history_feedback": [[click, False]] * len(items),
        "history_dwell_s": [2.5] * len(items),
        "history_gap_s": [gap_s] * len(items),
    }


def join(decisions, outcomes, now_s=1000.0, config=CONFIG, **settings):
    frame, counts = join_outcomes(
        pl.DataFrame(decisions, schema=SCHEMA),
        pl.DataFrame(outcomes),
        tasks=TASKS,
        user_feature_names=NAMES,
        now_ms=round(1000 * now_s),
        config=config,
        **settings,
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
    assert frame["history_id"].to_list() == [0, 0, 1, 2]
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
    assert (counts.decisions, counts.joined, counts.outcomes, counts.repeated) == (1, 1, 2, 1)


def test_what_does_not_fit_is_counted():
    times = zip("abcde", range(1, 6), (0, 1, 2, 950, 3), strict=True)
    decisions = [decision(id_, user, time) for id_, user, time in times]
    outcomes = [outcome("a", 101), outcome("b", -10), outcome("zz", 5), outcome("c", -2)]
    frame, counts = join(decisions, outcomes)
    assert frame.height == 1  # c: its clock is behind by less than the skew
    assert counts == JoinCounts(
        decisions=5, joined=1, pending=1, without_outcome=3, outcomes=3, unknown=1, late=1, early=1
    )


def three(**last):
    return [
        decision("a", 1, 0, session="x"),
        decision("b", 1, 10, session="x", step=1, gap_s=4.0),
        decision("c", 1, 20, session="x", step=2, **last),
    ]


def test_a_session_is_cut_before_what_nothing_is_known_of():
    frame, counts = join(three(), [outcome("a", 1), outcome("c", 21)])
    assert frame["position"].to_list() == [0]
    assert frame.select("left", "left_known").rows() == [(False, False)]
    assert (counts.without_outcome, counts.after_gap) == (1, 1)


def test_the_next_request_tells_an_outcome_that_never_came():
    told = history(7, 3, click=True)
    frame, counts = join(three(**told), [outcome("a", 1), outcome("c", 21)])
    assert frame.select("item_id", "click", "dwell_s").rows()[1] == (3, 1, 2.5)
    assert frame["left"].to_list() == [False, False, True]
    assert (counts.joined, counts.told, counts.without_outcome) == (2, 1, 0)
    other = history(3, 7, click=True)  # it is about another item
    assert join(three(**other), [outcome("a", 1), outcome("c", 21)])[1].told == 0


def test_a_request_that_was_repeated_counts_once():
    """Its first answer was lost: the service ended, or the connection did."""
    first, second, third = three(**history(3))
    retry = decision("r", 1, 11, session="x", step=1, gap_s=4.0, item=5)
    told_of_retry = third | history(3, 5)
    frame, counts = join(
        [first, second, retry, told_of_retry], [outcome("a", 1), outcome("r", 12), outcome("c", 21)]
    )
    assert frame["item_id"].to_list() == [3, 5, 3]
    assert (counts.retried, counts.joined, counts.after_gap) == (1, 3, 0)


@pytest.mark.parametrize("unseen_ends", [False, True])
def test_a_last_decision_without_an_outcome_is_an_end_only_where_it_was_not_seen(unseen_ends):
    config = dataclasses.replace(CONFIG, unseen_ends=unseen_ends)
    frame, _ = join(three(), [outcome("a", 1), outcome("b", 11)], config=config)
    assert frame["left"].to_list() == [False, unseen_ends]
    assert frame["left_known"].to_list() == [True, unseen_ends]
    cut, _ = join(three(), [outcome("a", 1), outcome("c", 21)], config=config)
    assert cut["left_known"].to_list() == [False]  # b was seen, since c came after it


def test_an_outcome_may_say_whether_the_user_left():
    decisions = [decision("a", 1, 0), decision("b", 2, 0), decision("c", 3, 0)]
    said = [
        outcome(id_, 1) | {"left": left}
        for id_, left in zip("abc", (True, False, None), strict=True)
    ]
    assert join(decisions, said, 30)[0]["left"].to_list() == [True, False, False]
    over, _ = join(decisions, said)  # by the pause, where the outcome does not say it
    assert over["left"].to_list() == [True, False, True]
    assert over["left_known"].to_list() == [True, False, True]


def test_a_session_brings_its_history_and_the_time_that_its_requests_tell():
    first = decision("a", 1, 100, gap_s=5.0, **history(8, 9, click=True, gap_s=2.0))
    second = decision("b", 1, 110, step=1, gap_s=4.0)
    third = decision("c", 1, 113, step=2)
    frame, _ = join([third, first, second], [outcome(id_, 114) for id_ in "cba"])
    assert frame["position"].to_list() == [-1, -1, 0, 1, 2]
    assert frame["item_id"].to_list()[:2] == [8, 9]
    assert frame["time_ms"].to_list() == [93_000, 95_000, 100_000, 104_000, 107_000]
    assert frame["split"].to_list() == ["history"] * 2 + ["train"] * 3
    assert frame["click"].to_list()[:2] == [1, 1]
    assert frame["propensity"].null_count() == 2


def test_a_session_whose_beginning_is_not_there_is_left_out():
    decisions = [decision("a", 1, 0, step=2), decision("b", 2, 0)]
    frame, counts = join(decisions, [outcome("a", 1), outcome("b", 1)])
    assert frame["user_id"].to_list() == [2]
    assert counts.headless == 1


def test_parallel_sessions_of_a_user_stay_apart():
    times = [("a", 0, "x", 0), ("b", 5, "y", 0), ("c", 10, "x", 1), ("d", 15, "y", 1)]
    decisions = [decision(id_, 1, time, session=s, step=step) for id_, time, s, step in times]
    frame, _ = join(decisions, [outcome(id_, 20) for id_ in "abcd"])
    assert frame["session_id"].to_list() == [0, 0, 1, 1]
    assert frame["position"].to_list() == [0, 1, 0, 1]


def test_a_window_takes_whole_sessions():
    decisions = [
        decision("a", 1, 0, scorer="old"),
        decision("b", 1, 10, step=1, scorer="new"),  # swapped in while the session went on
        decision("c", 2, 20, scorer="new"),
    ]
    outcomes = [outcome(id_, 21) for id_ in "abc"]
    rows = [join(decisions, outcomes, choose=Window(index, "scorer")) for index in (0, 1)]
    assert [frame["user_id"].to_list() for frame, _ in rows] == [[1, 1], [2]]
    assert [counts.decisions for _, counts in rows] == [2, 1]
    by_time = [join(decisions, outcomes, choose=Window(index, "15s"))[0] for index in (0, 1)]
    assert [frame["user_id"].to_list() for frame in by_time] == [[1, 1], [2]]
    with pytest.raises(SchemaError, match="no window 3; got: 2 windows by scorer"):
        join(decisions, outcomes, choose=Window(2, "scorer"))


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
