"""The tensors of a network that learn, and a target copy of them."""

# Torch's stubs leave the types of some members open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recomind.errors import ConfigError
from recomind.types import QFunction, ReusesUtility, SessionState, TrainableQFunction


class TargetCopy:
    """The network with trainable tensors of an earlier time.

    Only those are copied: the frozen ranker, its embedding tables and the catalogue are shared.
    """

    def __init__(self, network: TrainableQFunction) -> None:
        self._call = _QValuesCall(network)
        self.tensors = {k: v.detach().clone() for k, v in trainable(network).items()}

    @torch.no_grad()
    def move(self, network: TrainableQFunction, rate: float) -> None:
        """Move towards the network by `rate`: an exponential average of its past weights."""
        for name, tensor in trainable(network).items():
            self.tensors[name].lerp_(tensor.detach(), rate)

    def q_values(self, state: SessionState, item_id: Tensor) -> tuple[Tensor, Tensor]:
        """Q [B, K] of the earlier network, and the utility [B, K]."""
        return self._called(state, item_id, None)

    def q_given_utility(self, state: SessionState, item_id: Tensor, utility_BK: Tensor) -> Tensor:
        """Q [B, K] of the earlier network; its frozen ranker is not asked where it need not be."""
        return self._called(state, item_id, utility_BK)[0]

    def _called(
        self, state: SessionState, item_id: Tensor, utility_BK: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        tensors = {f"network.{name}": value for name, value in self.tensors.items()}
        return torch.func.functional_call(self._call, tensors, (state, item_id, utility_BK))


def values(
    network: QFunction, state: SessionState, item_id: Tensor, utility_BK: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Q [B, K] and the utility [B, K] of `item_id` [B, K].

    Where the utility is given and the network can go by it, its frozen ranker is not asked again.
    """
    if utility_BK is None or not isinstance(network, ReusesUtility):
        return network.q_values(state, item_id)
    return network.q_given_utility(state, item_id, utility_BK), utility_BK


class _QValuesCall(nn.Module):
    """`values` as a forward pass, which `functional_call` needs."""

    network: QFunction

    def __init__(self, network: QFunction) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, state: SessionState, item_id: Tensor, utility_BK: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return values(self.network, state, item_id, utility_BK)


def trainable(network: TrainableQFunction) -> dict[str, Tensor]:
    """The parameters that learn, by name; nothing else is ever sent or saved.

    Raises:
        ConfigError: there are none.
    """
    found: dict[str, Tensor] = {
        name: p for name, p in network.named_parameters() if p.requires_grad
    }
    if not found:
        raise ConfigError("nothing to train", got=type(network).__name__, expected="parameters")
    return found


def load_trainable(network: TrainableQFunction, tensors: Mapping[str, Any]) -> None:
    """Copy values into the parameters that learn.

    Raises:
        ConfigError: the names differ: the tensors belong to another network.
    """
    parameters = trainable(network)
    if parameters.keys() != tensors.keys():
        differ = sorted(parameters.keys() ^ tensors.keys())
        raise ConfigError(
            "the weights belong to another network",
            got=differ[:5],
            expected="the same parameter names",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(writable(tensors[name]))


def as_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies on the CPU, as RLlib ships weights."""
    return {name: t.detach().cpu().numpy().copy() for name, t in tensors.items()}


def writable(value: Any) -> Tensor:
    """A tensor in its own memory: torch warns about Ray's arrays, which are read-only."""
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
