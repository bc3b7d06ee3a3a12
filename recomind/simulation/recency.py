"""Weights of logged days, for behaviour that drifts from day to day."""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.data import SessionDataset

_HALF_LIFE = 1.0  # snapshots in which the weight of an event halves


def recency_weights(dataset: SessionDataset, rows: Tensor) -> Tensor:
    """Weights [R] float32 in (0, 1] of the events `rows` [R]: .5^age, ours.

    The age is the number of catalogue snapshots (days in KuaiRand) between the event and the newest
    row of its round. All weights are 1 in logs with a single snapshot, such as those of a world.
    """
    snapshot, round_index = dataset.snapshot(rows), dataset.round_index(rows)
    age = torch.zeros(len(rows))
    for number in round_index.unique():
        mine = round_index == number
        age[mine] = (snapshot[mine].max() - snapshot[mine]).float()
    return 0.5 ** (age / _HALF_LIFE)
