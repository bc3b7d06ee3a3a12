"""Weights of logged days, for behaviour that drifts from day to day."""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.data import SessionDataset
from recomind.errors import SchemaError

_MOST = 200_000  # events of the training days that trees are fitted to
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


def member_rows(dataset: SessionDataset) -> tuple[Tensor, Tensor, Tensor]:
    """Rows [R] that the training simulator's trees are fitted to, weights, and rows that stop it.

    They are the training users'; the weights are smaller the older an event is.
    """
    fitted = _thinned(dataset.rows("train", holdout=False))
    return fitted, recency_weights(dataset, fitted), dataset.rows("calibration", holdout=False)


def holdout_rows(dataset: SessionDataset) -> tuple[Tensor, Tensor, Tensor]:
    """Rows [R] that the hold-out simulator is fitted to, their weights, and rows that stop it.

    Earlier days weigh less the older they are, later ones 1; without days all weigh 1.
    """
    later = dataset.rows("calibration", "test", holdout=True)
    if len(later) < 200:
        raise SchemaError(
            "too few hold-out events for a hold-out simulator",
            got=len(later),
            expected=">= 200 on later days",
            mend="raise data.holdout_share, or provide more days",
        )
    earlier = _thinned(dataset.rows("train", holdout=True))
    fitted, stopping = later.split([int(len(later) * 0.75), len(later) - int(len(later) * 0.75)])
    weights = torch.cat([recency_weights(dataset, earlier), torch.ones(len(fitted))])
    return torch.cat([earlier, fitted]), weights, stopping


def _thinned(rows: Tensor) -> Tensor:
    """At most `_MOST` of `rows`, evenly."""
    return rows[:: max(1, -(-len(rows) // _MOST))]
