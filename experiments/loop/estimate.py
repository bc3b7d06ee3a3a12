"""Off-policy estimates from the decision log, whose pools and propensities are exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import torch

from recomind.data.sources.served.decisions import read_decisions
from recomind.evaluation.ope.estimate import estimate_all
from recomind.evaluation.ope.logs import LoggedSessions, Target

ESTIMATOR = "per_decision_snips"


def greedy_estimate(
    events: pl.DataFrame, decisions: Path, weights: dict[str, float], horizon: int
) -> dict[str, Any]:
    """What the served policy would earn a session without exploration.

    Sessions whose end was not seen are left out: whether a session's last outcome comes does not
    depend on the session.

    Args:
        events: of one window, as `join_outcomes` makes them.
        decisions: folder of the log.
        weights: of the tasks in the reward.
        horizon: length at which the world cuts a session.
    """
    log = read_decisions(decisions).select(
        "decision_id", "pool_item_id", "pool_score", "pool_supported"
    )
    shown = events.filter(pl.col("position") >= 0).join(log, on="decision_id", how="left")
    whole = (pl.col("left").any() | (pl.len() == horizon)).over("session_id")
    sessions = shown.filter(whole).sort("session_id", "position").partition_by("session_id")
    width = int(shown["pool_item_id"].list.len().max())  # pyright: ignore[reportArgumentType]
    shape = (len(sessions), max(each.height for each in sessions))
    logs = LoggedSessions(
        reward=torch.zeros(shape, dtype=torch.float64),
        pscore=torch.ones(shape, dtype=torch.float64),
        slot=torch.zeros(shape, dtype=torch.int64),
        mask=torch.zeros(shape, dtype=torch.bool),
    )
    prob = torch.zeros(*shape, width, dtype=torch.float64)
    for s, session in enumerate(sessions):
        for t, row in enumerate(session.iter_rows(named=True)):
            logs.reward[s, t] = sum(weight * row[task] for task, weight in weights.items())
            logs.pscore[s, t], logs.mask[s, t] = row["propensity"], True
            logs.slot[s, t] = row["pool_item_id"].index(row["item_id"])
            prob[s, t, _best(row)] = 1.0
    found = estimate_all(logs, Target(prob=prob), names=[ESTIMATOR])
    on_policy = logs.reward.sum(1)
    return found["estimates"][ESTIMATOR] | {
        "num_sessions": len(sessions),
        "on_policy": float(on_policy.mean()),
        "effective_sessions": found["overlap"]["effective_sessions"],
    }


def _best(row: dict[str, Any]) -> int:
    """The slot that is shown without exploration; ties go to the lower item id."""
    slots = [slot for slot, inside in enumerate(row["pool_supported"]) if inside]
    return max(slots, key=lambda slot: (row["pool_score"][slot], -row["pool_item_id"][slot]))
