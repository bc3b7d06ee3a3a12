"""A run that goes on where a finished one ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recomind.artifacts import Manifest, read_manifest, write_artifact
from recomind.config import resolve
from recomind.data.sources.served.source import ServedLogs
from recomind.errors import ConfigError
from recomind.evaluation.config import SERVED
from recomind.pipeline.continuing import check_continued, source_of
from recomind.pipeline.run import Round, Run
from recomind.pipeline.run_file import claim
from tests.cli.test_config import composed

TRUNK = {"tasks": ["watch_10s", "hide"]}


def write(folder: Path, kind: str, inputs: dict[str, str] | None = None, item: str = "a") -> None:
    extra: dict[str, Any] = {"trunk": TRUNK, "reward_weights": {"watch_10s": 1.0}}
    with write_artifact(folder, Manifest(kind=kind, inputs=inputs or {}, extra=extra)) as staging:
        (staging / "catalogue.json").write_text(f'"{item}"')


def finished_run(folder: Path, *settings: str, num_rounds: int = 1, exported: int = 0) -> Run:
    """A run of empty artifacts."""
    run = Run(resolve(composed(f"output={folder}", f"rounds={num_rounds}", *settings)))
    folder.mkdir()
    claim(folder, run.config)
    for each in run.rounds:
        write(each.path("policy"), "policy")
        write(each.path("sessions"), "sessions")
    write(folder / "export", "scorer", {f"round_{exported}/policy": "1"})
    return run


def served(continued: Path, *settings: str) -> tuple[str, ...]:
    return (
        "data=served",
        "data.decisions=decisions",
        "data.outcomes.path=outcomes",
        f"continue_from={continued}",
        *settings,
    )


@pytest.fixture
def first(tmp_path: Path) -> Run:
    """Three rounds in a world, of which the second is exported."""
    return finished_run(tmp_path / "first", "world=fatigue", num_rounds=3, exported=1)


@pytest.fixture
def second(tmp_path: Path, first: Run) -> Run:
    """Two rounds of served logs that continue it."""
    return finished_run(tmp_path / "second", *served(first.folder), num_rounds=2, exported=1)


@pytest.fixture
def third(tmp_path: Path, second: Run) -> Run:
    """The third run in the row."""
    return Run(resolve(composed(f"output={tmp_path}/third", *served(second.folder))))


def test_the_rounds_of_continued_runs_come_before_its_own(first: Run, second: Run, third: Run):
    new = third.round(0)
    folders = [each.path("sessions") for run in (first, second) for each in run.rounds]
    assert new.session_folders == [*folders, third.folder / "round_0" / "sessions"]
    assert not new.is_first
    assert new.first.path("ranker") == first.folder / "round_0" / "ranker"
    assert new.previous.path("policy") == second.folder / "round_1" / "policy"
    assert second.round(0).previous.path("policy") == first.folder / "round_1" / "policy"
    assert [each.index for each in second.round(1).own_so_far] == [0, 1]


def test_each_round_has_a_seed_of_its_own_and_names_what_it_was_made_of(first, second, third):
    rounds = [*first.rounds, *second.rounds, *third.rounds]
    assert len({each.seed("train-policy") for each in rounds}) == len(rounds)
    inputs = third.round(0).manifest("ranker", 0, (), third.before[-1].session_folders).inputs
    assert set(inputs) == {
        "continued/round_0/sessions",
        "continued/round_1/sessions",
        "continued/continued/round_0/sessions",
        "continued/continued/round_1/sessions",
        "continued/continued/round_2/sessions",
    }


def test_windows_that_earlier_runs_took_of_the_same_log_are_not_taken_again(first, second, third):
    def window(round: Round) -> int:
        source = source_of(round)
        assert isinstance(source, ServedLogs)
        return source.index

    assert [window(each) for each in second.rounds] == [0, 1]
    assert window(third.round(0)) == 2
    third.config.data["decisions"] = "another"
    assert window(third.round(0)) == 0


def test_what_is_served_is_the_baseline_and_its_scorer_is_the_continued_export(first, second):
    assert second.config.evaluation.baseline_arm == SERVED
    assert second.config.data["scorer"] == f"{first.folder}/export"
    check_continued(second)


def test_a_run_that_cannot_be_continued_is_refused(tmp_path: Path, first: Run):
    itself = Run(resolve(composed(f"output={first.folder}", *served(first.folder))))
    with pytest.raises(ConfigError, match="a run cannot continue itself"):
        check_continued(itself)
    shorter = served(first.folder, f"output={tmp_path}/new", "ranker.history_length=7")
    with pytest.raises(ConfigError, match=r"histories of other lengths; got: .*=7; expected: 40"):
        check_continued(Run(resolve(composed(*shorter))))
    write(tmp_path / "other", "scorer", item="b")
    settings = served(first.folder, f"data.scorer={tmp_path}/other", f"output={tmp_path}/new")
    with pytest.raises(ConfigError, match="other items than the served scorer"):
        check_continued(Run(resolve(composed(*settings))))
    assert read_manifest(tmp_path / "other", "scorer").kind == "scorer"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("world=fatigue", "continue_from=runs/a"), r"data\.source=world, and a world"),
        (
            ("data=movielens", "data.root=.", "continue_from=runs/a"),
            "continue_from goes on from a run with what was served since; got: data.source=",
        ),
        (("data=served", "data.decisions=a", "data.outcomes.path=b"), "data.scorer is not set"),
    ],
)
def test_what_cannot_continue_is_told_before_any_stage(settings, message):
    with pytest.raises(ConfigError, match=message):
        resolve(composed(*settings))
