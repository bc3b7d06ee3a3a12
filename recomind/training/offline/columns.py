"""Logged batches as flat columns, the only form of a batch that RLlib can slice and ship."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.policy.sample_batch import MultiAgentBatch
from torch import Tensor

from recomind.training.dqn.columns import to_batch, to_transition
from recomind.training.offline.logs import LoggedBatch
from recomind.types import Candidates

_POOL = "pool."


def to_columns(logged: LoggedBatch, *, numpy: bool) -> MultiAgentBatch:
    """RLlib's batch; numpy arrays where it goes to another process."""
    batch = to_batch(logged.transition, numpy=numpy)
    for name, value in logged.candidates.to_tensordict().items():
        batch[DEFAULT_MODULE_ID][_POOL + name] = value.numpy() if numpy else value
    return batch


def from_columns(columns: Mapping[str, Tensor]) -> LoggedBatch:
    """Inverse of `to_columns`."""
    pool: dict[str, Any] = {
        k.removeprefix(_POOL): v for k, v in columns.items() if k.startswith(_POOL)
    }
    size = columns["item_id"].shape
    return LoggedBatch(
        transition=to_transition(columns), candidates=Candidates(**pool, batch_size=size)
    )
