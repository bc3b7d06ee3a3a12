"""`recomind run`: logs to an exported policy, in rounds."""

from __future__ import annotations

import shutil

from recomind.cli import (
    build_index,
    collect_logs,
    distil_queries,
    evaluate,
    export,
    fit_simulator,
    prepare_data,
    select_round,
    train_policy,
    train_ranker,
)
from recomind.cli.context import Run
from recomind.data import reads_logs


def run(run: Run, round_index: int) -> bool:
    """All stages; what is finished is kept, so that the same command goes on after a stop."""
    run.claim()
    last = run.config.rounds - 1
    for index in range(run.config.rounds):
        if reads_logs(run.config.data):
            prepare_data.run(run, index)
        else:
            collect_logs.run(run, index)
        train_ranker.run(run, index)
        build_index.run(run, index)
        fit_simulator.run(run, index)
        train_policy.run(run, index)
        if run.config.distil.num_states:
            distil_queries.run(run, index)
        if select_round.chooses(run, last):
            select_round.judge(run, index)
        shutil.rmtree(run.path("checkpoints", index), ignore_errors=True)
    released = evaluate.run(run, last)
    export.run(run, last)
    return released
