"""An environment that implements the contract and derives from nothing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recomind.streams import SessionStreams
from recomind.types import Catalogue, SessionEnvironment, SessionState, Step


class Delegate:
    """Passes on what `SessionEnvironment` names, and nothing else."""

    def __init__(self, inner: SessionEnvironment) -> None:
        self._inner = inner

    @property
    def tasks(self) -> tuple[str, ...]:
        return self._inner.tasks

    @property
    def reward_weights_H(self) -> Tensor:
        return self._inner.reward_weights_H

    @property
    def catalogue(self) -> Catalogue:
        return self._inner.catalogue

    @property
    def horizon(self) -> int:
        return self._inner.horizon

    @property
    def history_length(self) -> int:
        return self._inner.history_length

    @property
    def streams(self) -> SessionStreams:
        return self._inner.streams

    def reset(
        self, num_sessions: int, generator: torch.Generator, *, auto_reset: bool = False
    ) -> SessionState:
        return self._inner.reset(num_sessions, generator, auto_reset=auto_reset)

    def reset_to(self, seeds: Tensor) -> SessionState:
        return self._inner.reset_to(seeds)

    def step(self, item_id: Tensor) -> Step:
        return self._inner.step(item_id)

    def get_state(self) -> dict[str, Tensor]:
        return self._inner.get_state()

    def set_state(self, tensors: Mapping[str, Tensor], *, auto_reset: bool = True) -> SessionState:
        return self._inner.set_state(tensors, auto_reset=auto_reset)
