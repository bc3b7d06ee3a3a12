"""`recomind backtest`, and `evaluate ab=...`, on the folder of a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.flow.commands import MICRO, NOT_RELEASED
from tests.flow.in_process import Command

WINDOW = ("backtest.max_windows=1", "backtest.max_events=2000", "ranker.num_members=1")


@pytest.mark.slow
def test_a_run_is_backtested_without_touching_the_rest(command: Command, folder: Path) -> None:
    at = f"hydra.run.dir={folder}"
    outcome = command("backtest", *MICRO, at, "backtest.max_windows=1", "backtest.parts=5")
    assert outcome.status == 0, outcome.err
    assert "backtest: done" in outcome.err
    found = json.loads((folder / "round_0/backtest/backtest.json").read_text())
    assert len(found["windows"]) == 1
    assert "<table" in (folder / "round_0/backtest/backtest.html").read_text()
    again = command("backtest", *MICRO, at, "backtest.max_windows=1", "backtest.parts=5")
    assert again.err.splitlines() == ["backtest: kept from before"]
    assert command("export", *MICRO, at).err.splitlines() == ["export: kept from before"]


def days_of(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "round_0/backtest/backtest.json").read_text())
    assert found["dated"]
    (window,) = found["windows"]
    judged = {cell["day"]: cell for cell in window["cells"] if "alarms" in cell}
    assert judged, window
    assert all(0.0 < cell["auc.watch_10s"] < 1.0 for cell in judged.values())
    assert all(set(cell["alarms"]) == {"input", "calibration", "exit"} for cell in judged.values())
    return found


@pytest.mark.slow
def test_a_drifting_world_is_backtested_by_its_days(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "drift"
    given = (*MICRO, "world=drift", f"hydra.run.dir={folder}", "collect.num_sessions=800", *WINDOW)
    for stage in ("collect-logs", "backtest"):
        outcome = command(stage, *given)
        assert outcome.status == 0, outcome.err
    found = days_of(folder)
    assert found["days"] == [f"2026-01-{day:02d}" for day in range(1, 15)]
    page = (folder / "round_0/backtest/backtest.html").read_text()
    assert "<th>2026-01-14" in page


@pytest.mark.slow
def test_the_days_of_kuairand_are_backtested(
    command: Command, kuairand_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "kuairand"
    small = ("size=tiny", "ranker.num_epochs=1", "ranker.history_length=8", "ranker.dim=8")
    given = ("experiment=kuairand", f"data.root={kuairand_root}", f"hydra.run.dir={folder}")
    for stage in ("prepare-data", "backtest"):
        outcome = command(stage, *given, *small, *WINDOW)
        assert outcome.status == 0, outcome.err
    found = days_of(folder)
    days = found["days"]  # the file's own; copies of it end sooner or later
    assert days[0].startswith("2022-04-2")
    assert days[-1] >= "2022-05-04"
    assert days == sorted(set(days))
    assert "auc.long_view" in found["decay"]


def test_a_real_test_is_held_against_the_report(command: Command, folder: Path) -> None:
    results = folder.parent / "results.csv"
    results.write_text("arm,value\nranker,1.0\npolicy,2.0\n")
    outcome = command("evaluate", *MICRO, f"hydra.run.dir={folder}", f"ab={results}")
    assert outcome.status in (0, NOT_RELEASED), outcome.err
    assert "evaluate: kept from before" in outcome.err
    found = json.loads((folder / "ab.json").read_text())
    assert found["outcome"] == {"ranker": 1.0, "policy": 2.0}
    assert {"world", "hold-out simulator"} <= {method["name"] for method in found["methods"]}


def test_a_result_that_cannot_be_is_refused_before_anything_is_played(
    command: Command, folder: Path
) -> None:
    results = folder.parent / "results.csv"
    results.write_text("arm,value\nranker,1.0\npolise,2.0\n")
    outcome = command("evaluate", *MICRO, f"hydra.run.dir={folder}", f"ab={results}")
    assert outcome.status == 2
    assert "no arm of the report; got: 'polise'" in outcome.err
    assert not (folder / "ab.json").exists()
