"""Warnings about simulators that disagree on a level, or are asked what no log tells."""

from __future__ import annotations

import pytest

from recomind.errors import ConfigError
from recomind.evaluation.config import GateConfig
from recomind.evaluation.gate import decide
from recomind.evaluation.html import render_html
from recomind.evaluation.schema import validate_report

METRIC = GateConfig().target_metric


def simulator(kind, ranker, in_support=None, **more):
    values = {"ranker": ranker, "policy": ranker}
    values |= {} if in_support is None else {"ranker_in_support": in_support}
    arms = {
        arm: {METRIC: {"mean": value, "standard_error": None, "n": 9}}
        for arm, value in values.items()
    }
    return {"name": f"the {kind}", "kind": kind, "lift": {}, "arms": arms} | more


@pytest.mark.parametrize(
    ("levels", "says"),
    [
        ((71.3, 15.6), "4.6 times apart"),
        ((15.6, 71.3), "4.6 times apart"),
        ((5.0, 2.6), None),
        ((5.0, 0.0), None),
    ],
)
def test_a_ranker_that_is_worth_something_else_in_each_simulator(levels, says):
    pair = [simulator("simulator", levels[0]), simulator("holdout_simulator", levels[1])]
    warnings = decide(pair, GateConfig())["warnings"]
    assert len(warnings) == (says is not None)
    assert says is None or says in warnings[0]
    assert decide(pair, GateConfig(level_ratio=5.0))["warnings"] == []
    assert decide(pair[:1], GateConfig())["warnings"] == []


def test_the_warning_says_what_they_agree_on():
    pair = [simulator("simulator", 7.0, 6.1), simulator("holdout_simulator", 2.0, 5.5)]
    (warning,) = decide(pair, GateConfig())["warnings"]
    assert warning.endswith("Inside the logs' support they say 6.100 and 5.500.")
    with pytest.raises(ConfigError, match=r"gate\.level_ratio"):
        GateConfig(level_ratio=0.5)


def test_an_arm_that_lives_outside_the_logs():
    entry = simulator("simulator", 5.0, outside_share={"policy": 0.02, "ranker": 0.58})
    (warning,) = decide([entry], GateConfig())["warnings"]
    assert warning.startswith("58% of the steps of ranker in the simulator lie where the logs")


def test_the_share_stands_in_the_report_and_on_its_page(report):
    report["environments"][1]["outside_share"] = {"policy": 0.0, "ranker": 0.58}
    page = render_html(validate_report(report))
    assert "share of steps outside the logs" in page
    assert "58.0%" in page
