"""Rounds: the best one's policy is kept, judged on sessions that no figure comes from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from recomind.artifacts import read_manifest, write_artifact, write_json
from recomind.pipeline import judging
from recomind.pipeline.stages import select_round
from tests.flow.commands import MICRO, NOT_RELEASED, kill_when, read_report, recomind, start
from tests.flow.in_process import Command

TWO = (*MICRO, "rounds=2")
LAST = "round=1"  # the round that a stage run alone works on


def at(folder: Path) -> str:
    return f"hydra.run.dir={folder}"


@pytest.fixture(scope="module")
def two_rounds(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run gone on for a round, killed before that round was judged, and ended."""
    working = tmp_path_factory.mktemp("two")
    folder = Path(shutil.copytree(finished, working / "runs" / "tiny"))
    said = kill_when(
        start("run", *TWO, cwd=working), folder / "round_1" / "policy" / "manifest.json"
    )
    assert "train-policy, round 1 of 2: kept from before" in said
    assert "select-round, round 1 of 2: done" in said
    done = recomind("run", *TWO, cwd=working)
    assert done.returncode in (0, NOT_RELEASED), done.stderr
    assert "select-round, round 1 of 2: kept from before" in done.stderr
    assert "train-policy, round 2 of 2: kept from before" in done.stderr
    return folder


@pytest.fixture
def folder(two_rounds: Path, tmp_path: Path) -> Path:
    """A copy of the run of two rounds, to be written to."""
    return Path(shutil.copytree(two_rounds, tmp_path / "copy"))


def selection(folder: Path, round_index: int) -> dict[str, Any]:
    return json.loads((folder / f"round_{round_index}/selection/selection.json").read_text())


def let_win(folder: Path, winner: int) -> None:
    """Write into the selections that round `winner` was far the better one."""
    for index in (0, 1):
        path = folder / f"round_{index}" / "selection"
        manifest, content = read_manifest(path), selection(folder, index)
        with write_artifact(path, manifest) as staging:
            value = 100.0 if index == winner else 0.0
            write_json(staging / "selection.json", content | {"value": value})


@pytest.mark.slow
def test_the_better_round_is_kept_and_the_report_says_so(two_rounds: Path) -> None:
    judged = [selection(two_rounds, index) for index in (0, 1)]
    report = read_report(two_rounds)
    values = [each["value"] for each in judged]
    assert values[0] != values[1]
    assert report["rounds"] == {"keep": "best", "kept": values.index(max(values)), "judged": judged}
    assert [each["round"] for each in judged] == [0, 1]
    assert {each["metric"] for each in judged} == {"watch_10s_per_session"}
    # One baseline for all rounds: the same ranker meets the same users.
    assert judged[0]["baseline_value"] == judged[1]["baseline_value"]
    # Beside it the ranker that was refit on the policy's own logs; at first they are the same.
    assert (judged[0]["refit_value"], judged[0]["refit_lift"]) == (
        judged[0]["baseline_value"],
        judged[0]["lift"],
    )
    assert judged[1]["refit_value"] != judged[1]["baseline_value"]
    assert judged[1]["refit_lift"]["value"] == pytest.approx(
        judged[1]["value"] / judged[1]["refit_value"] - 1
    )
    # No release on a refit ranker's weakness: the one that was there before is a baseline too.
    world = report["environments"][-1]
    means = {arm: each["watch_10s_per_session"]["mean"] for arm, each in world["arms"].items()}
    assert means["first_ranker"] != means["ranker"]
    over = world["lift_over"]["first_ranker"]["watch_10s_per_session"]["value"]
    assert over == pytest.approx(means["policy"] / means["first_ranker"] - 1)
    assert (two_rounds / "export" / "manifest.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("winner", [0, 1])
def test_the_kept_policy_is_the_one_reported_and_exported(
    command: Command, folder: Path, winner: int
) -> None:
    let_win(folder, winner)
    outcome = command("evaluate", *TWO, LAST, at(folder))
    assert f"round {winner + 1} of 2 is kept: watch_10s_per_session " in outcome.out
    goes_on = outcome.status == NOT_RELEASED  # the rounds differ, whichever won
    assert ("rounds=3 goes on in this folder" in outcome.out) == goes_on
    report = read_report(folder)
    assert report["rounds"]["kept"] == winner
    assert {point["round"] for point in report["learning_curve"]} == {0, 1}
    assert report["step0_parity"]["max_rank_difference"] == 0
    assert command("export", *TWO, LAST, at(folder)).status == 0
    inputs = read_manifest(folder / "export").inputs
    assert [name for name in inputs if name.endswith("/policy")] == [f"round_{winner}/policy"]
    # Evaluated alone the round's policy does the same; only the last baseline has seen all logs.
    command("evaluate", *TWO, f"round={winner}", "keep=last", at(folder))
    alone = read_report(folder)
    assert alone["rounds"] == {"keep": "last", "kept": winner, "judged": []}
    world, world_alone = (each["environments"][-1] for each in (report, alone))
    assert world["arms"]["policy"] == world_alone["arms"]["policy"]
    same = world["arms"]["ranker"] == world_alone["arms"]["ranker"]
    assert same is (winner == 1)


@pytest.mark.slow
def test_a_round_is_chosen_on_sessions_that_the_report_does_not_have(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: dict[str, list[torch.Tensor]] = {"select": [], "report": []}
    for module, called, place, name in (
        (select_round, "play", 2, "select"),
        (judging, "play", 2, "report"),
        (judging, "rollout", 3, "report"),
    ):
        real = getattr(module, called)

        def watched(*args: Any, _real=real, _at=place, _met=met[name]) -> Any:
            _met.append(args[_at])
            return _real(*args)

        monkeypatch.setattr(module, called, watched)
    before = [selection(folder, index) for index in (0, 1)]
    for index in (0, 1):
        shutil.rmtree(folder / f"round_{index}" / "selection")
    shutil.rmtree(folder / "report")
    outcome = command("evaluate", *MICRO, LAST, at(folder))  # a stage alone needs no rounds=2
    assert outcome.err.count("select-round") == 2
    chosen_on, reported_on = (torch.cat(met[name]).unique() for name in ("select", "report"))
    assert len(chosen_on) == 30
    assert len(reported_on) >= 80  # of the report, of its pilot, and what guardrails asked for
    assert not bool(torch.isin(chosen_on, reported_on).any())
    assert [selection(folder, index) for index in (0, 1)] == before


@pytest.mark.slow
def test_a_second_round_repeats_byte_for_byte(
    command: Command, folder: Path, two_rounds: Path
) -> None:
    for name in ("round_1", "report", "export"):
        shutil.rmtree(folder / name)
    assert command("run", *TWO, at(folder)).status in (0, NOT_RELEASED)
    for name in (
        "round_1/sessions/sessions.parquet",
        "round_1/policy/policy.safetensors",
        "round_1/selection/selection.json",
        "report/report.json",
        "export/weights.safetensors",
    ):
        assert (folder / name).read_bytes() == (two_rounds / name).read_bytes(), name


@pytest.mark.slow
def test_a_metric_that_the_world_lacks_chooses_no_round(command: Command, folder: Path) -> None:
    outcome = command("evaluate", *TWO, LAST, at(folder), "gate.target_metric=clicks_per_session")
    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: no round can be chosen by a metric that the world does not")
