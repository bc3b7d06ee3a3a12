"""Guards of the simulator from the command line: switches, warnings, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.flow.commands import MICRO, NOT_RELEASED
from tests.flow.in_process import Command


def at(folder: Path) -> str:
    return f"hydra.run.dir={folder}"


def curve(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "round_0" / "policy" / "learning_curve.json").read_text())


@pytest.mark.slow
def test_the_switches_reach_the_simulator_and_the_training(command: Command, folder: Path) -> None:
    before = curve(folder)
    assert before[0]["simulator_return"] > 1.0
    switches = ("simulation.fatigue=false", "simulation.uncertainty_stop=1e-9")
    assert command("fit-simulator", *MICRO, at(folder), *switches).status == 0
    assert list((folder / "round_0" / "simulator").glob("gate_*")) == []
    assert len(list((folder / "round_0" / "simulator").glob("hazard_*"))) == 2
    assert command("train-policy", *MICRO, at(folder), *switches).status == 0
    # The members never agree to the last digit, so every session is cut after its first event.
    assert all(point["simulator_return"] <= 1.0 for point in curve(folder))
    assert command("evaluate", *MICRO, at(folder), *switches).status in (0, NOT_RELEASED)


def test_a_horizon_below_the_longest_logged_session_is_said(command: Command, folder: Path) -> None:
    fit = ("fit-simulator", *MICRO, at(folder), "evaluation.fidelity_sessions=0")
    assert "warning" not in command(*fit, "simulation.hidden=4").err
    outcome = command(*fit, "simulation.horizon=2")
    assert outcome.status == 0
    assert "% of the logged sessions are longer than simulation.horizon=2" in outcome.err
    assert "the longest has 4 events" in outcome.err


@pytest.mark.parametrize(
    ("stage", "setting", "message"),
    [
        ("fit-simulator", "simulation.horizon=0", "simulation.horizon; got: 0; expected: >= 1"),
        ("fit-simulator", "simulation.max_start_states=0", "simulation.max_start_states; got: 0"),
        ("fit-simulator", "simulation.uncertainty_stop=-1", "simulation.uncertainty_stop is a"),
        ("evaluate", "evaluation.rounds_sessions=0", "evaluation.rounds_sessions; got: 0"),
        ("evaluate", "keep=worst", "keep"),
        ("collect-logs", "world.horizon=0", "a session needs at least one step; got: 0"),
    ],
)
def test_a_session_without_steps_is_refused(
    command: Command, folder: Path, stage: str, setting: str, message: str
) -> None:
    outcome = command(stage, *MICRO, at(folder), setting)
    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so nothing to refuse")
def test_a_gpu_that_is_not_there_is_refused_before_anything_runs(
    command: Command, tmp_path: Path
) -> None:
    outcome = command("run", *MICRO, at(tmp_path / "new"), "training.device=cuda")
    assert outcome.status == 2
    assert "training.device=cuda is not there; got: cpu alone" in outcome.err
    assert not (tmp_path / "new" / "round_0").exists()


def test_one_member_has_no_disagreement(command: Command, folder: Path) -> None:
    one = ("ranker.num_members=1", "simulation.uncertainty_stop=0.1")
    assert command("train-ranker", *MICRO, at(folder), *one).status == 0
    outcome = command("fit-simulator", *MICRO, at(folder), *one)
    assert outcome.status == 2
    assert "simulation.uncertainty_stop needs an ensemble; got: 1 ranker" in outcome.err
