"""The stages one by one, on a folder of their own and on that of a finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from recomind.artifacts import load_tensors, read_manifest
from tests.flow.commands import MICRO, NOT_RELEASED, read_report
from tests.flow.in_process import Command

STAGES = (
    "collect-logs",
    "train-ranker",
    "build-index",
    "fit-simulator",
    "train-policy",
    "evaluate",
    "export",
)
OPEN_GATE = ("gate.min_lift=-0.99", "gate.must_not_fall=[]", "gate.must_not_rise=[]")


def at(folder: Path) -> str:
    return f"hydra.run.dir={folder}"


@pytest.mark.slow
def test_the_stages_one_by_one_give_the_report_of_the_run(
    command: Command, finished: Path, tmp_path: Path
) -> None:
    for stage in STAGES:
        outcome = command(stage, *MICRO, at(tmp_path / "again"))
        assert outcome.status in (0, NOT_RELEASED), outcome.err
        assert f"{stage}: done" in outcome.err
    assert read_report(tmp_path / "again") == read_report(finished)


@pytest.mark.parametrize("stage", [*STAGES, "run"])
def test_a_finished_stage_is_kept(command: Command, folder: Path, stage: str) -> None:
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*/**/manifest.json")}
    outcome = command(stage, *MICRO, at(folder))
    expected = STAGES if stage == "run" else [stage]
    assert outcome.err.splitlines() == [f"{name}: kept from before" for name in expected]
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*/**/manifest.json")} == before


def test_a_stage_runs_again_with_other_settings(command: Command, folder: Path) -> None:
    outcome = command("evaluate", *MICRO, at(folder), "evaluation.num_sessions=24")
    assert "evaluate: done" in outcome.err
    entries = read_report(folder)["environments"]
    rolled_out = [entry for entry in entries if entry["kind"] != "logs"]
    assert {arm["session_depth"]["n"] for e in rolled_out for arm in e["arms"].values()} == {24}
    (logs,) = [entry for entry in entries if entry["kind"] == "logs"]
    assert set(logs["ope"]) == {"policy", "ranker"}
    assert entries[-1]["kind"] == "world"


@pytest.mark.parametrize(
    ("settings", "status", "released"),
    [
        (OPEN_GATE, 0, True),
        (("gate.min_lift=50",), NOT_RELEASED, False),
        (("gate.min_lift=50", "exit_unreleased=0"), 0, False),
    ],
)
def test_the_exit_status_tells_of_the_gate(
    command: Command, folder: Path, settings: tuple[str, ...], status: int, released: bool
) -> None:
    assert command("evaluate", *MICRO, at(folder), *settings).status == status
    gate = read_report(folder)["gate"]
    assert gate["released"] is released
    assert gate["reasons"]


def test_the_export_says_what_the_gate_said(command: Command, folder: Path) -> None:
    command("evaluate", *MICRO, at(folder), *OPEN_GATE)
    outcome = command("export", *MICRO, at(folder), *OPEN_GATE)
    assert outcome.status == 0
    extra = json.loads((folder / "export" / "manifest.json").read_text())["extra"]
    assert extra["released"] is True


def test_a_refit_policy_makes_the_report_stale(command: Command, folder: Path) -> None:
    other = ("training.num_env_steps=0",)
    assert command("train-policy", *MICRO, at(folder), *other).status == 0
    outcome = command("export", *MICRO, at(folder), *other)
    assert outcome.status == 2
    assert outcome.err.startswith("error: the report judges another policy")
    assert command("evaluate", *MICRO, at(folder), *other).status == NOT_RELEASED
    assert read_report(folder)["environments"][0]["lift"]["reward_per_session"]["value"] == 0.0


@pytest.mark.parametrize("learning_rate", [0.3, 1e-3])
def test_a_policy_that_is_worse_in_its_own_simulator_is_left_at_step_0(
    command: Command, folder: Path, learning_rate: float
) -> None:
    shutil.rmtree(folder / "checkpoints")
    rate, compared = f"training.learning_rate={learning_rate}", "training.compare_sessions=100"
    outcome = command("train-policy", *MICRO, at(folder), rate, compared)
    assert outcome.status == 0, outcome.err
    extra = read_manifest(folder / "round_0/policy").extra
    residual = load_tensors(folder / "round_0/policy/policy.safetensors")["residual.weight"]
    assert extra["left_at_step_0"] is (extra["simulated_gain"] <= 0.0)
    assert extra["left_at_step_0"] is not bool(residual.any())
    assert ("left at step 0" in outcome.err) is extra["left_at_step_0"]
    if learning_rate > 0.1:
        assert extra["left_at_step_0"]


def test_a_verdict_on_another_arm_releases_nothing(command: Command, folder: Path) -> None:
    other = ("evaluation.policy_arm=random", "evaluation.baseline_arm=policy", *OPEN_GATE)
    assert command("evaluate", *MICRO, at(folder), *other).status == 0
    assert read_report(folder)["gate"]["policy_identity"] is None
    outcome = command("export", *MICRO, at(folder), *other)
    assert outcome.status == 2
    assert "judges another arm than the policy; got: gate.policy_arm=random" in outcome.err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("evaluation.policy_arm=first_ranker", "names no arm of this run; got: first_ranker"),
        ("gate.target_metric=watches_per_session", "gate.target_metric is no metric of world"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_a_session_runs(
    command: Command, folder: Path, setting: str, message: str
) -> None:
    outcome = command("evaluate", *MICRO, at(folder), setting)
    assert outcome.status == 2
    assert message in outcome.err
    assert (folder / "report" / "report.json").is_file()  # of the run before


def test_the_fidelity_report_may_change_or_go_and_nothing_else_runs_again(
    command: Command, folder: Path
) -> None:
    report = folder / "round_0" / "fidelity" / "manifest.json"
    before = report.read_bytes()
    without = command("run", *MICRO, at(folder), "evaluation.fidelity_sessions=0")
    assert without.status in (0, NOT_RELEASED), without.err
    assert "done in" not in without.err
    assert report.read_bytes() == before
    other = command("run", *MICRO, at(folder), "evaluation.fidelity_sessions=20")
    assert [line.split(":")[0] for line in other.err.splitlines() if "done in" in line] == [
        "fidelity"
    ]
