"""Predictions of all runs to the figures of `result.json`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.ranker_quality.impressions import TASKS, Impressions
from benchmarks.ranker_quality.measures import (
    POSITIONS,
    over_seeds,
    paired_difference,
    user_auc,
    weighted_auc,
)
from experiments.result import figure
from recomind.ranker import calibration_curve
from recomind.streams import hash_uniform

Runs = dict[str, list[dict[str, np.ndarray]]]  # arm -> a run a seed: name -> [R, H] probabilities
COLD_SHARE, _COLD_SALT = 0.1, 11
_ECE_BINS, _FEW = 15, 200  # rows below which an AUC says little


def cold_items(log: Impressions) -> np.ndarray:
    """[N] bool: the items whose rows are withheld from training in the run of cold items."""
    items = torch.arange(log.dataset.catalogue.num_items)
    return (hash_uniform(items, _COLD_SALT) < COLD_SHARE).numpy()


def all_figures(log: Impressions, runs: Runs, cold_arm: str) -> dict[str, Any]:
    """Every figure; arms and seeds as they come in `runs`."""
    figures: dict[str, Any] = {}
    arms = [arm for arm in runs if arm != cold_arm]
    for column, task in enumerate(TASKS):
        label = log.label_EH[log.test, column]
        for arm in arms:
            figures |= _of_arm(log, runs[arm], arm, column)
        for arm in ("ours", "lightgbm"):
            figures |= _by_position(log, runs[arm], arm, column)
        ours_SR, trees_SR = (_scores(runs[arm], "live", column) for arm in ("ours", "lightgbm"))
        difference = paired_difference(label, ours_SR, trees_SR, log.user_E[log.test])
        figures[f"paired.auc.{task}.ours_minus_lightgbm"] = figure(
            **difference, unit="auc", interval="bootstrap by user, seeds averaged"
        )
        errors = [_ece(score, label) for score in ours_SR]
        figures[f"ece.{task}.ours"] = figure(**over_seeds(errors), unit="probability")
    return figures | _of_items(log, runs, cold_arm)


def _scores(runs: list[dict[str, np.ndarray]], name: str, column: int) -> np.ndarray:
    return np.stack([run[name][:, column] for run in runs])


def _of_arm(
    log: Impressions, runs: list[dict[str, np.ndarray]], arm: str, column: int
) -> dict[str, Any]:
    """AUC and GAUC of one arm and task, with states as they were and frozen."""
    task, label, user = TASKS[column], log.label_EH[log.test, column], log.user_E[log.test]
    live, frozen = (_scores(runs, name, column) for name in ("live", "frozen"))
    later = log.label_EH[log.calibration, column]
    chosen = [weighted_auc(later, s) for s in _scores(runs, "calibration", column)]
    values = {
        f"auc.{task}.{arm}": [weighted_auc(label, s) for s in live],
        f"auc_frozen.{task}.{arm}": [weighted_auc(label, s) for s in frozen],
        f"gauc.{task}.{arm}": [user_auc(label, s, user)[0] for s in live],
        f"gauc_frozen.{task}.{arm}": [user_auc(label, s, user)[0] for s in frozen],
        f"auc_3_may.{task}.{arm}": chosen,
    }
    return {name: figure(**over_seeds(seeds), unit="auc") for name, seeds in values.items()}


def _by_position(
    log: Impressions, runs: list[dict[str, np.ndarray]], arm: str, column: int
) -> dict[str, Any]:
    figures, position = {}, log.position_E[log.test]
    for name, (first, last) in POSITIONS.items():
        at = (position >= first) & (position <= last)
        label = log.label_EH[log.test, column][at]
        aucs = [weighted_auc(label, score[at]) for score in _scores(runs, "live", column)]
        figures[f"auc.{TASKS[column]}.{arm}.position.{name}"] = figure(
            **over_seeds(aucs), unit="auc", rows=int(at.sum())
        )
    return figures


def _of_items(log: Impressions, runs: Runs, cold_arm: str) -> dict[str, Any]:
    """AUC of `watch_10s` on items that the log first shows on the test day, and on cold ones."""
    item, seen = log.item_E[log.test], np.zeros(log.dataset.catalogue.num_items, dtype=bool)
    seen[log.item_E[np.concatenate([log.train, log.calibration])]] = True
    cold = cold_items(log)[item]
    known = {f"auc.watch_10s.{arm}.cold_items_known": runs[arm] for arm in ("ours", "lightgbm")}
    figures = {
        "auc.watch_10s.ours.new_items": _on_rows(log, runs["ours"], ~seen[item]),
        "auc.watch_10s.lightgbm.new_items": _on_rows(log, runs["lightgbm"], ~seen[item]),
        "auc.watch_10s.ours.cold_items": _on_rows(log, runs[cold_arm], cold),
    }
    return figures | {name: _on_rows(log, runs_of, cold) for name, runs_of in known.items()}


def _on_rows(log: Impressions, runs: list[dict[str, np.ndarray]], at: np.ndarray) -> dict[str, Any]:
    num, label = int(at.sum()), log.label_EH[log.test, 0][at]
    if num == 0 or label.min() == label.max():
        return {"value": None, "reason": f"{num} rows, with labels of one kind", "rows": num}
    aucs = [weighted_auc(label, score[at]) for score in _scores(runs, "live", 0)]
    entry = figure(**over_seeds(aucs), unit="auc", rows=num)
    return entry | ({"note": "too few rows to tell arms apart"} if num < _FEW else {})


def _ece(score: np.ndarray, label: np.ndarray) -> float:
    observed = torch.tensor(label).bool()
    return calibration_curve(torch.tensor(score), observed, _ECE_BINS)["ece"]
