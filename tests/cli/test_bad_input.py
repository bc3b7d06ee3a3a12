"""Bad input: one clear line, status 2, and nothing half-written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from recomind.artifacts import only_writer
from tests.data.conftest import START_MS, small_log, small_users, small_videos
from tests.flow.commands import recomind
from tests.flow.in_process import Command, Outcome

Tables = dict[str, pl.DataFrame | None]
OUT = Path("runs/here")
HERE = f"hydra.run.dir={OUT}"


def put(column: str, value: object, row: int = 7) -> Tables:
    """The small log with one value replaced; a text makes the column text."""
    log = small_log()
    values = log[column].to_list()
    values[row] = value
    if isinstance(value, str):
        values = [str(x) for x in values]
    return {"log": log.with_columns(pl.Series(column, values))}


def duration(value: str) -> Tables:
    videos = small_videos().cast({"video_duration": pl.String})
    column = pl.Series("video_duration", [value, *videos["video_duration"][1:]])
    return {"videos": videos.with_columns(column)}


def check_refused(outcome: Outcome, message: str) -> None:
    """One line that says `message`, status 2, and no artifact of the stage that failed."""
    assert outcome.status == 2
    lines = outcome.err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert "Traceback" not in outcome.out
    assert [str(p) for p in OUT.glob("round_*/*")] == []


DEFECTS: dict[str, tuple[Callable[[], Tables], str]] = {
    "no log": (lambda: {"log": None}, "no log file here"),
    "no users": (lambda: {"users": None}, "a file is missing"),
    "no videos": (lambda: {"videos": None}, "a file is missing"),
    "no column": (lambda: {"log": small_log().drop("time_ms")}, "column 'time_ms' is missing"),
    "no user column": (
        lambda: {"users": small_users().drop("register_days")},
        "column 'register_days' is missing",
    ),
    "wrong type": (lambda: put("play_time_ms", "soon"), "wrong type; got: 'soon' in row 7"),
    "empty log": (lambda: {"log": small_log().clear()}, "is empty"),
    "unknown user": (lambda: put("user_id", 12), "got: 12 in row 7"),
    "unknown video": (lambda: put("video_id", 20), "got: 20 in row 7"),
    "negative play time": (lambda: put("play_time_ms", -1), "got: -1 in row 7"),
    "NaN in a feature": (lambda: duration("NaN"), "'video_duration'"),
    "equal timestamps": (
        lambda: {"log": small_log().with_columns(time_ms=START_MS)},
        "one value only",
    ),
}


@pytest.mark.parametrize("stage", ["prepare-data", "run"])
@pytest.mark.parametrize("defect", DEFECTS)
def test_bad_files(command: Command, official: Callable[..., str], defect: str, stage: str) -> None:
    tables, message = DEFECTS[defect]
    root = f"data.root={official(**tables())}"
    check_refused(command(stage, "experiment=kuairand", root, HERE), message)


def test_good_files_are_read(command: Command, official: Callable[..., str]) -> None:
    root = official()
    outcome = command("prepare-data", "experiment=kuairand", f"data.root={root}", HERE)
    assert outcome.status == 0, outcome.err
    assert (OUT / "round_0" / "sessions" / "manifest.json").is_file()


@pytest.mark.parametrize("how", ["sample", "full"])
def test_changed_logs_under_the_same_path_are_read_again(
    command: Command, official: Callable[..., str], how: str
) -> None:
    given = ["prepare-data", "experiment=kuairand", f"data.root={official()}", HERE]
    given += ["data.full_hash=true"] if how == "full" else []
    assert "prepare-data: done" in command(*given).err
    assert "prepare-data: kept from before" in command(*given).err
    official(log=small_log(seed=1))
    assert "prepare-data: done" in command(*given).err


@pytest.mark.parametrize("stage", ["train-ranker", "run"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["training.gama=0.5"], "unknown setting 'training.gama': did you mean 'gamma'?"),
        (["trainig.gamma=0.5"], "unknown setting 'trainig': did you mean 'training'?"),
        (["+sed=1"], "unknown setting 'sed': did you mean 'seed'?"),
        (["+training.gama=0.5"], "'training.gama': did you mean 'gamma'?"),
        (["training.gamma=1.5"], "training.gamma; got: 1.5; expected: in [0, 1)"),
        (["training.gamma=much"], "training.gamma"),
        (["seed=one"], "seed"),
        (["rounds=0"], "rounds"),
        (["seed==1"], "unreadable override 'seed==1'"),
        (["world=fatige"], "unknown world 'fatige': did you mean 'fatigue'?"),
        (["world=suite/stead"], "unknown world/suite 'stead': did you mean 'steady'?"),
        (["gate.target_metric=depth"], "unknown metric in the gate"),
    ],
)
def test_bad_settings(command: Command, stage: str, settings: list[str], message: str) -> None:
    check_refused(command(stage, "experiment=tiny", *settings, HERE), message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["world._target_=logging.os.system"], "outside the allowed prefixes"),
        (["world._target_=recomind.artifacts.Manifest"], "is no world"),
        (["world._target_=simulators.absent.World"], "cannot be imported"),
        (["world=none"], "got: no _target_"),  # the experiment's settings of a world stay
        (["world.num_itms=4"], "did you mean 'num_items'?"),
        (["world.preset_name=fatige"], "fatigue"),
    ],
)
def test_bad_worlds(command: Command, settings: list[str], message: str) -> None:
    check_refused(command("collect-logs", "experiment=tiny", *settings, HERE), message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["ranker.dim=9"], "ranker.dim does not divide into heads; got: dim=9, num_heads=2"),
        (["ranker.recent_length=0"], "ranker.recent_length; got: 0; expected: >= 1"),
        (["ranker.num_nearest=-1"], "ranker.num_nearest; got: -1; expected: >= 0"),
        (["ranker.patience=0"], "ranker.patience; got: 0"),
        (["ranker.next_action_weight=-1"], "next action weight not negative"),
        (["ranker.id_dropout=1"], "ranker.id_dropout; got: 1.0; expected: in [0, 1)"),
        (["ranker.num_layer=2"], "did you mean 'num_layers'?"),
    ],
)
def test_bad_settings_of_the_ranker(command: Command, settings: list[str], message: str) -> None:
    check_refused(command("train-ranker", "experiment=tiny", *settings, HERE), message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["+ranker.utility_weights.wach_10s=1"],
            "a task that the log does not have; got: ['wach_10s']",
        ),
        (["+ranker.utility_weights.hide=-2"], "task 'hide' is one class only"),
        (
            ["ranker.hash_ids=false", "ranker.id_buckets=100"],
            "the id table is smaller than the largest id; got: ranker.id_buckets=100 for 200 items",
        ),
        (["ranker.learning_rate=1e30"], "the loss is not finite"),
    ],
)
def test_a_ranker_that_the_log_does_not_allow(
    command: Command, settings: list[str], message: str
) -> None:
    log = ["experiment=tiny", "collect.num_sessions=12", "world.num_items=200", HERE]
    assert command("collect-logs", *log).status == 0
    outcome = command("train-ranker", *log, *settings)
    assert not (OUT / "round_0" / "ranker").exists()
    shutil.rmtree(OUT / "round_0")
    check_refused(outcome, message)


def test_an_unknown_experiment(command: Command) -> None:
    said = "unknown experiment 'tyny': did you mean 'tiny'?"
    check_refused(command("run", "experiment=tyny", HERE), said)


def test_nothing_to_work_on(command: Command) -> None:
    check_refused(command("run", HERE), "data.source=world without a world")


def test_an_unknown_stage(command: Command) -> None:
    check_refused(command("trian-policy"), "did you mean 'train-policy'?")


def test_raw_logs_without_a_folder(command: Command) -> None:
    check_refused(command("run", "experiment=kuairand", HERE), "data.root")


@pytest.mark.parametrize(
    "stage", ["train-ranker", "build-index", "fit-simulator", "train-policy", "evaluate", "export"]
)
def test_a_stage_without_its_inputs(command: Command, stage: str) -> None:
    outcome = command(stage, "experiment=tiny", HERE)
    assert "here" in outcome.err
    check_refused(outcome, "to mend: ")


def test_no_reports(command: Command) -> None:
    check_refused(command("results", "nowhere"), "no folder of runs here")


def test_a_folder_with_something_else_in_it(command: Command) -> None:
    OUT.mkdir(parents=True)
    (OUT / "thesis.tex").write_text("mine")
    check_refused(command("run", "experiment=tiny", HERE), "something that is not a run")
    assert (OUT / "thesis.tex").read_text() == "mine"
    assert not (OUT / "run.json").exists()


def test_two_commands_at_once_in_a_folder(command: Command) -> None:
    with only_writer(OUT):
        outcome = command("run", "experiment=tiny", HERE)
        check_refused(outcome, "another command is at work in this folder; got: ")
        assert "output=" in outcome.err
        assert not (OUT / "run.json").exists()
        assert command("check-world", "experiment=tiny", HERE).status == 0  # writes nothing
    assert "another command" not in command("evaluate", "experiment=tiny", HERE).err


def test_a_folder_that_cannot_be_made(command: Command) -> None:
    Path("thesis.tex").write_text("mine")
    outcome = command("run", "experiment=tiny", HERE, "output=thesis.tex/here")
    check_refused(outcome, "no folder to write into; got: thesis.tex/here: Not a directory")
    check_refused(
        command("run", "experiment=tiny", HERE, "output=thesis.tex"),
        "no folder to write into; got: thesis.tex: File exists",
    )
    assert Path("thesis.tex").read_text() == "mine"


def test_a_first_command_that_failed_can_be_mended(
    command: Command, official: Callable[..., str]
) -> None:
    here = ("run", "experiment=kuairand", HERE)
    check_refused(command(*here, "data.root=nowhere"), "data.root is not a folder")
    root = official(log=None)
    check_refused(command(*here, f"data.root={root}"), "no log file here")


def test_as_a_process(tmp_path: Path) -> None:
    done = recomind("run", "experiment=tiny", "training.gamma=2", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: training.gamma; got: 2.0; expected: in [0, 1)\n"
    assert done.stdout == ""
