"""AUC, AUC per user, and the interval of a difference; all exact with ties.

Symbols: `R` rows, `S` seeds, `B` bootstrap samples.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from recomind.evaluation.statistics import student_quantile

POSITIONS = {"1": (0, 0), "2": (1, 1), "3-5": (2, 4), "6+": (5, 10**9)}  # in the session, from 0


def weighted_auc(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Area under the ROC curve, ties half; NaN with labels of one kind."""
    _, place = np.unique(score, return_inverse=True)
    return AucOfGroups(label, place)(np.ones(len(label)) if weight is None else weight)


class AucOfGroups:
    """AUC for many weightings of the same rows: the order is found once."""

    def __init__(self, label: np.ndarray, place: np.ndarray) -> None:
        self._positive, self._place, self._num = label > 0.5, place, int(place.max()) + 1

    def __call__(self, weight: np.ndarray) -> float:
        up = np.bincount(self._place, weight * self._positive, self._num)
        down = np.bincount(self._place, weight * ~self._positive, self._num)
        pairs = up.sum() * down.sum()
        below = np.cumsum(down) - down / 2
        return float((up * below).sum() / pairs) if pairs > 0 else math.nan


def user_auc(label: np.ndarray, score: np.ndarray, user: np.ndarray) -> tuple[float, int]:
    """GAUC: mean of the users' AUCs, weighted by their impressions; and the number of users.

    Only users with labels of both kinds (as in Zhou et al., "Deep Interest Network", KDD 2018,
    with impressions as weights).
    """
    frame = pl.DataFrame({"user": user, "label": label, "score": score})
    ranked = frame.with_columns(rank=pl.col("score").rank("average").over("user"))
    users = ranked.group_by("user", maintain_order=True).agg(
        n=pl.len(),
        up=pl.col("label").sum(),
        ranks=(pl.col("rank") * pl.col("label")).sum(),
    )
    users = users.filter((pl.col("up") > 0) & (pl.col("up") < pl.col("n")))
    up, down = pl.col("up"), pl.col("n") - pl.col("up")
    area = (pl.col("ranks") - up * (up + 1) / 2) / (up * down)
    mean = users.select((area * pl.col("n")).sum() / pl.col("n").sum()).item()
    return float(mean), users.height


def over_seeds(values: list[float]) -> dict[str, Any]:
    """Mean with a Student 95 % interval over seeds."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return {"value": mean, "n": n}
    half = student_quantile(0.95, n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return {"value": mean, "low": mean - half, "high": mean + half, "n": n}


def paired_difference(
    label: np.ndarray,
    first_SR: np.ndarray,
    second_SR: np.ndarray,
    user: np.ndarray,
    *,
    num_samples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """AUC of `first` minus `second`, seeds averaged, with a 95 % bootstrap interval by user.

    Users are drawn with replacement, each with all of its rows, the same ones for both arms. The
    interval speaks of other users, not of other trainings; those are in the seeds.
    """
    places = [np.unique(score, return_inverse=True)[1] for score in (*first_SR, *second_SR)]
    curves = [AucOfGroups(label, place) for place in places]
    sign = [1 / len(first_SR)] * len(first_SR) + [-1 / len(second_SR)] * len(second_SR)
    _, code = np.unique(user, return_inverse=True)
    generator, num = np.random.default_rng(seed), int(code.max()) + 1

    def difference(weight: np.ndarray) -> float:
        return sum(s * curve(weight) for s, curve in zip(sign, curves, strict=True))

    drawn = (generator.integers(num, size=num) for _ in range(num_samples))
    draws = [difference(np.bincount(d, minlength=num)[code].astype(float)) for d in drawn]
    low, high = np.quantile(draws, [0.025, 0.975])
    value = difference(np.ones(len(label)))
    return {"value": value, "low": float(low), "high": float(high), "n": num}
