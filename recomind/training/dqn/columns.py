"""Transitions as flat columns, the only form of a batch that RLlib can slice and ship."""

from __future__ import annotations

from collections.abc import Mapping

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from torch import Tensor

from recomind.types import Candidates, SessionState, Transition

_NESTED = {"state": SessionState, "next_state": SessionState, "next_candidates": Candidates}
WEIGHT = "weight"
_PLAIN = ("item_id", "log_propensity", "reward", "discount")
_KNOWN = ("utility", "next_utility")  # absent where nobody computed them


def to_batch(
    transition: Transition, *, numpy: bool, weight: Tensor | None = None
) -> MultiAgentBatch:
    """RLlib's batch of `transition` [B]; numpy arrays where it goes to another process.

    `weight` [B] is the weight of each transition in the loss; equal where None.
    """
    columns = {name: getattr(transition, name) for name in _PLAIN}
    known = {name: getattr(transition, name) for name in _KNOWN}
    columns |= {name: value for name, value in known.items() if value is not None}
    if weight is not None:
        columns[WEIGHT] = weight
    for prefix in _NESTED:
        for name, value in getattr(transition, prefix).to_tensordict().items():
            columns[f"{prefix}.{name}"] = value
    if numpy:
        columns = {name: value.numpy() for name, value in columns.items()}
    num = len(transition.item_id)
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps=num)


def to_transition(columns: Mapping[str, Tensor]) -> Transition:
    """Inverse of `to_batch`."""
    size = columns["item_id"].shape
    nested = {}
    for prefix, kind in _NESTED.items():
        start = len(prefix) + 1
        fields = {k[start:]: columns[k] for k in columns if k.startswith(f"{prefix}.")}
        nested[prefix] = kind(**fields, batch_size=size)
    plain = {name: columns.get(name) for name in (*_PLAIN, *_KNOWN)}
    return Transition(**plain, **nested, batch_size=size)
