"""report.json as a public interface."""

from __future__ import annotations

import copy
import json

import pytest

from recomind.errors import ArtifactError, SchemaError
from recomind.evaluation.report import environment_entry, read_report, write_report
from recomind.evaluation.schema import validate_report


def test_the_report_says_what_was_measured(report):
    world, simulator = report["environments"]
    assert report["arms"] == ["random", "ranker", "policy"]
    assert world["arms"]["policy"]["watch_10s_per_session"]["mean"] == 12.0
    assert world["lift"]["watch_10s_per_session"]["low"] > 0
    assert len(world["survival"]["ranker"]) == 13
    assert simulator["lift"]["watch_10s_per_session"]["high"] < 0
    assert report["gate"]["released"] is True
    assert report["gate"]["decided_by"] == ["tiny world"]


def test_what_is_written_is_what_is_read(report, tmp_path):
    path = write_report(tmp_path / "report", report)
    assert path.name == "report.json"
    assert read_report(path) == report
    assert read_report(tmp_path / "report") == report


def test_equal_reports_are_equal_bytes(report, tmp_path):
    first = write_report(tmp_path / "a", report).read_bytes()
    assert write_report(tmp_path / "b", copy.deepcopy(report)).read_bytes() == first


def test_json_holds_no_nan(report, tmp_path):
    text = write_report(tmp_path, report).read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in report.json"))


def put(path, value):
    def change(report):
        *way, last = path
        for key in way:
            report = report[key]
        if value is KeyError:
            del report[last]
        else:
            report[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format_version",), 2, "another format version; got: 2"),
        (("format_version",), KeyError, "another format version"),
        (("seed",), KeyError, "report has no 'seed'"),
        (("seed",), "three", "report.seed is str, not int"),
        (("seed",), True, "report.seed is bool, not int"),
        (("gate", "released"), 1, "report.gate.released is int, not bool"),
        (("gate", "reasons"), "none", "report.gate.reasons is str, not a list"),
        (("environments", 0, "kind"), "wrold", r"environments\[0\].kind is 'wrold': did you mean"),
        (("environments", 0, "arms"), [], "environments.0..arms is list, not an object"),
        (("environments", 0, "arms", "ghost"), {}, "ghost"),
        (("environments", 0, "survival", "policy", 1), float("nan"), "not a finite number"),
        (("environments", 1, "lift", "coverage", "low"), float("inf"), "not a finite number"),
        (("environments", 1, "lift", "coverage", "n"), KeyError, "coverage has no 'n'"),
        (("environments", 1, "lift_over"), {"first_ranker": 1}, "first_ranker is int, not an obj"),
        (
            ("environments", 1, "lift_over"),
            {"old": {"coverage": {}}},
            "old.coverage has no 'value'",
        ),
        (("learning_curve", 0, "world_return"), KeyError, "no 'world_return'"),
        (("step0_parity", "max_rank_difference"), 0.5, "is float, not int"),
        (("ranker", "hide", "auc"), float("nan"), "report.ranker.hide.auc is nan"),
        (("fidelity", "curve"), [1.0, float("inf")], r"fidelity.curve\[1\] is inf"),
        (("fidelity", "what"), {1, 2}, "which JSON cannot hold"),
        (("calibration", "watch_10s", "bins", 0, "n"), None, "is NoneType, not int"),
    ],
)
def test_a_broken_report_is_refused_where_it_is_broken(report, path, value, message):
    put(path, value)(report)
    with pytest.raises(SchemaError, match=message):
        validate_report(report)


def test_unknown_keys_are_let_through(report):
    report["added_later"] = 1
    assert validate_report(report) is report


def test_parity_may_be_absent(report):
    report["step0_parity"] = None
    assert validate_report(report)["step0_parity"] is None


def test_a_report_is_an_object():
    with pytest.raises(SchemaError, match="an object; got: list"):
        validate_report([])


def test_a_broken_report_is_not_written(report, tmp_path):
    report["seed"] = None
    with pytest.raises(SchemaError):
        write_report(tmp_path, report)
    assert list(tmp_path.iterdir()) == []


def test_no_report(tmp_path):
    with pytest.raises(ArtifactError, match="recomind evaluate"):
        read_report(tmp_path)


def test_half_a_report(report, tmp_path):
    path = write_report(tmp_path, report)
    path.write_text(path.read_text()[:100])
    with pytest.raises(ArtifactError, match="unreadable report"):
        read_report(path)


def test_unknown_kind_of_environment(play, evaluation):
    with pytest.raises(SchemaError, match="kind of an environment; got: reality"):
        environment_entry("x", "reality", {"policy": play("best")}, evaluation)


def test_environment_without_arms(evaluation):
    with pytest.raises(SchemaError, match="no arms"):
        environment_entry("x", "world", {}, evaluation)


def test_a_baseline_that_was_not_run_has_no_lift(play, evaluation):
    entry = environment_entry("x", "logs", {"policy": play("best")}, evaluation)
    assert entry["lift"] == {}
