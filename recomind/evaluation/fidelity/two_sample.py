"""Can a classifier tell simulated sessions from logged ones?

The classifier two-sample test (Lopez-Paz and Oquab, "Revisiting classifier two-sample tests",
ICLR 2017), with gradient-boosted trees over counts of a session. Symbols: `S` sessions, `T`
positions, `H` tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recomind.evaluation.fidelity.absent import absent
from recomind.evaluation.fidelity.sessions import SessionTable
from recomind.ranker import roc_auc

_PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.1,
    "num_leaves": 7,
    "min_data_in_leaf": 20,
    "lambda_l2": 5.0,
    "verbosity": -1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
}
_NUM_ROUNDS, _NUM_TOP, _FEW = 60, 8, 40
_FIRST = 3  # events that count as the beginning of a session


def two_sample(
    logged: SessionTable, simulated: SessionTable, tasks: Sequence[str], generator: torch.Generator
) -> dict[str, Any]:
    """Cross-validated AUC of logged against simulated; .5 is perfect, 1 is told apart always.

    Two folds; the two twins of a pair are in the same one, so that nothing of a session that was
    learned from can be recognised in the other.

    Returns:
        `{auc, standard_error, n, top_features}`, the features with their share of the gain and
        their means. The standard error is that of an AUC of .5 for so many sessions,
        sqrt((n + m + 1) / (12 n m)) (Mann and Whitney 1947).
    """
    import lightgbm as lgb

    num = len(logged.depth_S)
    if num < _FEW:
        return absent(f"{num} sessions, a classifier needs {_FEW}")
    names, ours = session_features(logged, tasks)
    _, theirs = session_features(simulated, tasks)
    fold_S = torch.randperm(num, generator=generator) % 2
    x, y = np.concatenate([ours, theirs]), np.repeat([0.0, 1.0], num)
    fold = fold_S.repeat(2).numpy()
    scores, gain = np.zeros(len(y)), np.zeros(len(names))
    for held_out in (0, 1):
        booster = lgb.train(
            _PARAMETERS, lgb.Dataset(x[fold != held_out], y[fold != held_out]), _NUM_ROUNDS
        )
        scores[fold == held_out] = np.asarray(booster.predict(x[fold == held_out], num_threads=1))
        gain += booster.feature_importance("gain")
    return {
        "auc": _fold_auc(scores, y, fold),
        "standard_error": float(((2 * num + 1) / (12 * num * num)) ** 0.5),
        "n": num,
        "top_features": _top(names, gain, ours, theirs),
    }


def _fold_auc(scores: np.ndarray, y: np.ndarray, fold: np.ndarray) -> float:
    """Mean over the folds: scores of two classifiers have no common scale."""
    values = [
        roc_auc(torch.from_numpy(scores[fold == k]), torch.from_numpy(y[fold == k]).long())
        for k in (0, 1)
    ]
    return sum(values) / 2


def _top(
    names: list[str], gain: np.ndarray, ours: np.ndarray, theirs: np.ndarray
) -> list[dict[str, Any]]:
    share = gain / max(float(gain.sum()), 1e-12)
    order = np.argsort(-share, kind="stable")[:_NUM_TOP]
    return [
        {
            "feature": names[k],
            "gain_share": float(share[k]),
            "logged": float(ours[:, k].mean()),
            "simulated": float(theirs[:, k].mean()),
        }
        for k in order
        if share[k] > 0
    ]


def session_features(table: SessionTable, tasks: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Names and values [S, features] of what is counted of a session."""
    mask_ST, n_S = table.mask_ST, table.depth_S.clamp(min=1).float()
    log_dwell_ST = torch.log1p(table.dwell_ST) * mask_ST
    mean_S = log_dwell_ST.sum(1) / n_S
    spread_S = (((log_dwell_ST - mean_S[:, None]) * mask_ST) ** 2).sum(1).div(n_S).sqrt()
    columns = {
        "events": table.depth_S.float(),
        "user_left": table.left_S.float(),
        "minutes": table.dwell_ST.sum(1) / 60.0,
        "log_dwell.mean": mean_S,
        "log_dwell.spread": spread_S,
        "log_dwell.first": log_dwell_ST[:, 0],
        "log_dwell.last": _last(log_dwell_ST, table.depth_S),
    }
    for h, task in enumerate(tasks):
        columns |= _task_columns(table.feedback_STH[..., h].float(), table.depth_S, task)
    return list(columns), torch.stack(list(columns.values()), dim=1).numpy()


def _task_columns(label_ST: Tensor, depth_S: Tensor, task: str) -> dict[str, Tensor]:
    n_S = depth_S.clamp(min=1).float()
    begin = depth_S.clamp(min=1, max=_FIRST).float()
    pairs = label_ST[:, 1:] * label_ST[:, :-1]
    return {
        f"{task}.rate": label_ST.sum(1) / n_S,
        f"{task}.rate_of_first_{_FIRST}": label_ST[:, :_FIRST].sum(1) / begin,
        f"{task}.last": _last(label_ST, depth_S),
        f"{task}.twice_running": pairs.sum(1) / (n_S - 1).clamp(min=1),
    }


def _last(values_ST: Tensor, depth_S: Tensor) -> Tensor:
    return values_ST.gather(1, (depth_S - 1).clamp(min=0)[:, None])[:, 0]
