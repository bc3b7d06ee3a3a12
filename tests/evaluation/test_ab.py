"""A real test beside its forecasts."""

from __future__ import annotations

from pathlib import Path

import pytest

from recomind.errors import RecomindError
from recomind.evaluation.ab import compare_with_outcome, read_outcome

ARMS = ["random", "ranker", "policy"]
METRIC = "watch_per_session"


def arms(random: float, ranker: float, policy: float | None) -> dict:
    means = {"random": random, "ranker": ranker, "policy": policy}
    return {arm: {METRIC: {"mean": mean}} for arm, mean in means.items()}


def estimates(**values: float | None) -> dict:
    return {METRIC: {"estimates": {name: {"value": value} for name, value in values.items()}}}


REPORT = {
    "arms": ARMS,
    "environments": [
        {"name": "training simulator", "arms": arms(9.0, 5.0, 7.0)},
        {"name": "hold-out simulator", "arms": arms(1.0, 2.0, 3.0)},
        {
            "name": "held-out logs",
            "arms": {},
            "ope": {
                "ranker": estimates(snips=4.0, ips=None),
                "policy": estimates(snips=3.0, ips=2.0),
            },
        },
    ],
}


def written(folder: Path, text: str) -> Path:
    path = folder / "results.csv"
    path.write_text(text)
    return path


def test_methods_are_ordered_by_how_well_they_foretold_it(tmp_path: Path) -> None:
    path = written(tmp_path, "arm,value\nrandom,1.0\nranker,4.0\npolicy,5.0\n")
    found = compare_with_outcome(REPORT, read_outcome(path, ARMS), METRIC)
    assert found["outcome"] == {"random": 1.0, "ranker": 4.0, "policy": 5.0}
    by_name = {each["name"]: each for each in found["methods"]}
    assert [each["name"] for each in found["methods"]] == [
        "hold-out simulator",
        "training simulator",
        "held-out logs: snips of watch_per_session",
    ]
    assert by_name["hold-out simulator"]["kendall_tau"] == pytest.approx(1.0)
    assert by_name["hold-out simulator"]["regret_at_1"] == 0.0
    # It would have shipped `random`, which earns 1 of 5; of three pairs it has one right.
    assert by_name["training simulator"]["regret_at_1"] == pytest.approx(0.8)
    assert by_name["training simulator"]["kendall_tau"] == pytest.approx(-1 / 3)
    # The logs say nothing of `random`: they are judged on the two arms that they know.
    logs = by_name["held-out logs: snips of watch_per_session"]
    assert logs["forecast"] == {"random": None, "ranker": 4.0, "policy": 3.0}
    assert logs["kendall_tau"] == pytest.approx(-1.0)
    assert logs["regret_at_1"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arm;value\nranker;1\n", "lacks columns"),
        ("arm,value\nranker,1\n", "compares nothing; got: 1 arms"),
        ("arm,value\nranker,1\nranker,2\n", "line 3: an arm twice"),
        ("arm,value\nranker,1\npolice,2\n", "line 3: no arm of the report; got: 'police'.*policy"),
        ("arm,value\nranker,1\npolicy,nan\n", "line 3: no finite number; got: 'nan'"),
        ("arm,value\nranker,1\npolicy,\n", "line 3: no finite number"),
    ],
)
def test_what_is_no_outcome_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecomindError, match=message):
        read_outcome(written(tmp_path, text), ARMS)


def test_an_absent_file_and_unforecast_arms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecomindError, match="ab is no file"):
        read_outcome(tmp_path / "none.csv", ARMS)
    with pytest.raises(RecomindError, match="nothing in the report forecasts other"):
        compare_with_outcome(
            REPORT | {"environments": REPORT["environments"][:2]},
            {"ranker": 1.0, "policy": 2.0},
            "other",
        )


def test_a_method_that_tells_no_arms_apart_is_shown_without_a_rank() -> None:
    tie = {"name": "flat", "arms": arms(2.0, 2.0, 2.0)}
    (found,) = compare_with_outcome(
        {"environments": [tie]}, {"ranker": 1.0, "policy": 2.0}, METRIC
    )["methods"]
    assert found["kendall_tau"] is None
    assert found["regret_at_1"] == 0.5
