"""The stages by the name of their command; each is imported when it is its turn."""

from __future__ import annotations

import importlib

from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage, complete

# A stage imports what it needs, and no command waits for what only others import.
_STAGES: dict[str, tuple[str, ...]] = {
    "collect-logs": ("collect_logs:CollectLogs",),
    "prepare-data": ("prepare_data:PrepareData",),
    "train-ranker": ("train_ranker:TrainRanker",),
    "build-index": ("build_index:BuildIndex",),
    "fit-simulator": ("fit_simulator:FitSimulator", "fit_holdout:FitHoldout", "fidelity:Fidelity"),
    "train-policy": ("fit_density:FitDensity", "train_policy:TrainPolicy"),
    "train-seeds": ("train_seeds:TrainSeeds",),
    "backtest": ("backtest:Backtest",),
    "distil-queries": ("distil_queries:DistilQueries",),
    "select-round": ("select_round:SelectRound",),
    "evaluate": ("evaluate:Evaluate",),
    "export": ("export:Export",),
}


def stages(command: str) -> list[Stage]:
    """What a command makes, in order."""
    return [_load(path) for path in _STAGES[command]]


def complete_command(command: str, round: Round, *, quiet: bool = False) -> None:
    """Complete the stages of a command; only the one of its name says that it was kept."""
    for stage in stages(command):
        for each in stage.copies(round):
            complete(each, round, quiet=quiet or stage.name != command)


def _load(path: str) -> Stage:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"recomind.pipeline.stages.{module}"), name)()
