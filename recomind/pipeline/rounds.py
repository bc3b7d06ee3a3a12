"""A run from logs to an exported policy; what is finished is kept, so it goes on after a stop."""

from __future__ import annotations

import shutil
from typing import Any

from recomind.data import reads_logs
from recomind.evaluation.report import read_report
from recomind.pipeline.continuing import check_continued
from recomind.pipeline.registry import complete_command
from recomind.pipeline.run import Round, Run
from recomind.pipeline.selection import chooses, judged_rounds, kept_round


def complete_run(run: Run) -> dict[str, Any]:
    """All rounds, the report on the best one, and the export; returns the report."""
    _ = run.device, run.config.training.learner_device  # raises before hours of other stages
    check_continued(run)
    run.claim()
    last = run.rounds[-1]
    for each in run.rounds:
        complete_round(each, chosen=chooses(last))
    report = evaluate(last)
    complete_command("export", last)
    return report


def complete_round(round: Round, *, chosen: bool) -> None:
    """Fresh logs to a trained policy; `chosen` if the best of several rounds is kept."""
    from_logs = reads_logs(round.config.data)
    complete_command("prepare-data" if from_logs else "collect-logs", round)
    complete_command("train-ranker", round)
    complete_command("build-index", round)
    complete_command("fit-simulator", round)
    complete_command("train-policy", round)
    if round.config.distil.num_states:
        complete_command("distil-queries", round)
    if chosen:
        complete_command("select-round", round)
    shutil.rmtree(round.path("checkpoints"), ignore_errors=True)


def evaluate(last: Round) -> dict[str, Any]:
    """Judge the rounds that are not judged yet, and report on the kept one; returns the report."""
    if chooses(last):
        for each in last.so_far:
            complete_command("select-round", each, quiet=True)
    # The round is chosen by its first policy: the others only judge its recipe.
    complete_command("train-seeds", kept_round(judged_rounds(last), last))
    complete_command("evaluate", last)
    return read_report(last.run.folder / "report")
