"""The stages by name."""

from __future__ import annotations

from recomind.cli import (
    build_index,
    check_ranker,
    check_world,
    collect_logs,
    distil_queries,
    evaluate,
    export,
    fit_simulator,
    prepare_data,
    run,
    serve,
    train_policy,
    train_ranker,
)

FUNCTIONS = {
    "collect-logs": collect_logs.run,
    "prepare-data": prepare_data.run,
    "train-ranker": train_ranker.run,
    "build-index": build_index.run,
    "fit-simulator": fit_simulator.run,
    "train-policy": train_policy.run,
    "distil-queries": distil_queries.run,
    "evaluate": evaluate.run,
    "export": export.run,
    "run": run.run,
    "serve": serve.run,
    "check-ranker": check_ranker.run,
    "check-world": check_world.run,
}

READ_ONLY = ("serve", "check-ranker", "check-world")  # the others write into the run's folder
