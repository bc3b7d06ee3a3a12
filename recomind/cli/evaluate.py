"""`recomind evaluate`: the report on the kept policy, and in short on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recomind.artifacts import write_json
from recomind.evaluation.ab import compare_with_outcome, print_comparison, read_outcome
from recomind.evaluation.config import ARMS
from recomind.evaluation.table import print_report
from recomind.pipeline import Round
from recomind.pipeline.rounds import evaluate
from recomind.pipeline.selection import another_may_pay


def run(round: Round) -> bool:
    """Write `report/` and print it; returns whether the policy is released.

    With `ab=results.csv` the forecasts of the report also stand beside a real test's outcome.
    """
    ab = round.config.ab
    outcome = read_outcome(Path(ab), list(ARMS)) if ab else None  # before anything is played
    report = evaluate(round)
    released = say(report, round)
    if outcome is not None:
        _compare(report, outcome, round)
    return released


def _compare(report: Mapping[str, Any], outcome: Mapping[str, float], round: Round) -> None:
    metric = report["gate"].get("target_metric", round.config.gate.target_metric)
    comparison = compare_with_outcome(report, outcome, metric)
    path = round.run.folder / "ab.json"
    write_json(path, comparison)
    print_comparison(comparison)
    print(f"forecast and outcome: {path}")


def say(report: Mapping[str, Any], round: Round) -> bool:
    """Print a report; returns whether the policy is released."""
    print_report(report)
    judged = report["rounds"].get("judged")
    if judged:
        values = ", ".join(f"{each['value']:.3f}" for each in judged)
        print(
            f"round {report['rounds']['kept'] + 1} of {len(judged)} is kept: "
            f"{judged[0]['metric']} {values}, on sessions that are in no figure above"
        )
    released = bool(report["gate"]["released"])
    if not released and another_may_pay(judged or [], round):
        print(
            f"rounds={round.index + 2} goes on in this folder: what the first logs could not show, "
            "the policy's own can"
        )
    print(f"report: {round.run.folder / 'report' / 'report.html'}")
    return released
