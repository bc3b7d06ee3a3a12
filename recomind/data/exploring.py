"""Logged decisions made at random: the only rows that no logging policy's knowledge has chosen."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recomind.data import SessionDataset

_LIKELY = 0.5  # from this propensity on, an item was the logging policy's own choice
_UNIFORM_SPREAD = 0.1  # deviation of log-propensities in a session below which they are uniform


def exploring_rows(dataset: SessionDataset, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Which of `rows` [R] were uniform random draws, and which the logging policy's own choice.

    A row is the policy's own choice where its propensity is at least .5 or, in a round of logs with
    random exposures, unknown. It is a random draw where the propensity is known, below .5, and
    nearly constant inside each session of its round: the pooled standard deviation of the
    log-propensity is below .1. A policy that takes the best of a random subset fails this.

    Returns:
        Two masks [R] bool.
    """
    propensity, round_index = dataset.propensity(rows), dataset.round_index(rows)
    chance = propensity < _LIKELY  # False where it is NaN
    for number in round_index.unique():
        mine = round_index == number
        here = chance & mine
        if not _is_uniform(propensity[here].log(), dataset.session_index(rows[here])):
            chance = chance & ~mine
    has_chance = torch.isin(round_index, round_index[chance])
    chosen = (propensity >= _LIKELY) | (propensity.isnan() & has_chance)
    return chance, chosen


def unconfounded_rows(dataset: SessionDataset, rows: Tensor) -> Tensor:
    """Which of `rows` [R] were not chosen by knowledge that the state lacks.

    These are the random draws, and all rows of later rounds, whose policy is one of this project
    and saw the state alone.

    Returns:
        A mask [R] bool.
    """
    if len(rows) == 0:
        return torch.zeros(0, dtype=torch.bool)
    return exploring_rows(dataset, rows)[0] | (dataset.round_index(rows) > 0)


def _is_uniform(log_propensity: Tensor, session: Tensor) -> bool:
    """Whether the pooled deviation of log-propensities inside sessions is below .1."""
    if len(session) == 0:
        return False
    _, group, counts = session.unique(return_inverse=True, return_counts=True)
    degrees = len(group) - len(counts)
    if degrees < 1:
        return False
    total = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, group, log_propensity)
    squares = ((log_propensity - (total / counts)[group]) ** 2).sum()
    return math.sqrt(float(squares) / degrees) < _UNIFORM_SPREAD
