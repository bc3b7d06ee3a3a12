"""A few sessions item by item, and how the page shows them."""

from __future__ import annotations

import re

import pytest

from recomind.errors import SchemaError
from recomind.evaluation.html import render_html
from recomind.evaluation.report import validate_report


def test_they_are_the_sessions_in_which_most_was_gained_and_lost(strips, seeds) -> None:
    outcomes, found = strips
    gain = outcomes["policy"].reward - outcomes["ranker"].reward
    assert [strip["which"] for strip in found] == ["best", "best", "worst", "worst"]
    shown = [s["arms"]["policy"]["reward"] - s["arms"]["ranker"]["reward"] for s in found]
    ordered = gain.sort(descending=True).values
    assert shown == pytest.approx([*ordered[:2].tolist(), *ordered[-2:].tolist()])
    rows = [seeds.tolist().index(strip["seed"]) for strip in found]
    assert len(set(rows)) == 4


def test_what_is_shown_is_the_session_that_was_counted(strips, seeds) -> None:
    outcomes, found = strips
    for strip in found:
        row = seeds.tolist().index(strip["seed"])
        for arm, played in strip["arms"].items():
            assert len(played["steps"]) == int(outcomes[arm].depth[row])
            assert played["reward"] == pytest.approx(float(outcomes[arm].reward[row]))
            assert played["left"] == bool(outcomes[arm].left[row])
            assert sum(step["reward"] for step in played["steps"]) == played["reward"]


def test_the_page_draws_a_box_an_item_and_fills_what_earned(report) -> None:
    (world,) = [entry for entry in report["environments"] if entry.get("strips")]
    page = render_html(report)
    steps = [s for strip in world["strips"] for a in strip["arms"].values() for s in a["steps"]]
    boxes = re.findall(r'<i class="k\d( on)?" title="item \d+', page)
    assert len(boxes) == len(steps)
    assert boxes.count(" on") == sum(step["reward"] > 0 for step in steps)
    assert page.index("Best for the policy") < page.index("Worst for the policy")


def test_what_decided_stands_first_and_where_it_trained_last(report) -> None:
    report["environments"].reverse()
    page = render_html(report)
    assert page.index("<h2>tiny world") < page.index("<h2>ensemble")


def test_a_strip_that_is_none_is_no_report(report) -> None:
    report["environments"][0]["strips"][0]["arms"]["policy"]["steps"][0]["item"] = "<b>"
    with pytest.raises(SchemaError, match="steps"):
        validate_report(report)
