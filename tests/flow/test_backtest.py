"""`recomind backtest`, and `evaluate ab=...`, on the folder of a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flow.commands import MICRO, NOT_RELEASED
from tests.flow.in_process import Command


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
