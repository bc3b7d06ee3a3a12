"""`recomind evaluate`: the report on the kept policy, and in short on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recomind.evaluation.table import print_report
from recomind.pipeline.rounds import evaluate
from recomind.pipeline.run import Round


def run(round: Round) -> bool:
    """Write `report/` and print it; returns whether the policy is released."""
    return say(evaluate(round), round)


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
    print(f"report: {round.run.folder / 'report' / 'report.html'}")
    return bool(report["gate"]["released"])
