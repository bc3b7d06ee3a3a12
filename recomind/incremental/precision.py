"""A ranker's products over candidates, in another precision or compiled.

Symbols: `B` states, `K` candidates, `M` hidden width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

import torch
from torch import Tensor

from recomind.ranker import ItemEncoding, SessionRanker, Stamp, StateEncoding

_LAYERS = ("event_part", "hidden", "cross")

Joint = Callable[[StateEncoding, ItemEncoding], Tensor]


class FastJoint:
    """`SessionRanker.joint`, cast and compiled; its result is float32.

    Weights are cast again whenever the ranker's have been written to. What depends on the state
    alone is encoded in float32, and cast only for the products over candidates.

    Args:
        ranker: whose layers these are.
        dtype: float32 or bfloat16.
        compiled: whether to compile the products.
    """

    def __init__(self, ranker: SessionRanker, dtype: torch.dtype, *, compiled: bool) -> None:
        self.ranker, self.dtype = ranker, dtype
        self._cast = ranker if self.dtype is torch.float32 else _with_own_layers(ranker)
        self._joint: Joint = self._cast.joint
        if compiled:
            self._joint = torch.compile(self._joint)
        self._stamp = Stamp()

    @torch.no_grad()
    def __call__(self, encoding: StateEncoding, items: ItemEncoding) -> Tensor:
        """The last hidden layer [B, K, M], float32."""
        if self._cast is self.ranker:
            return self._joint(encoding, items)
        self._follow()
        return self._joint(_to(encoding, self.dtype), _to(items, self.dtype)).float()

    def _follow(self) -> None:
        layers = [getattr(self.ranker, name) for name in _LAYERS]
        if self._stamp.is_of(layers):
            return
        for name, layer in zip(_LAYERS, layers, strict=True):
            # In place: a compiled network is compiled for these very tensors.
            getattr(self._cast, name).load_state_dict(layer.state_dict())
        self._stamp = Stamp(layers)


def _with_own_layers(ranker: SessionRanker) -> SessionRanker:
    """The same ranker, except that its layers over candidates are copies in bfloat16."""
    shared = copy.copy(ranker)
    shared._modules = dict(ranker._modules)
    for name in _LAYERS:
        layer = copy.deepcopy(getattr(ranker, name)).to(torch.bfloat16)
        shared._modules[name] = layer.requires_grad_(False)
    return shared


Encoding = TypeVar("Encoding", StateEncoding, ItemEncoding)


def _to(encoding: Encoding, dtype: torch.dtype) -> Encoding:
    parts = (getattr(encoding, field.name).to(dtype) for field in fields(encoding))
    return type(encoding)(*parts)
