"""The critic: a value of a state, read off the policy's own encoding of it.

`B` states, `M` width of an encoding, `K` candidates.
"""

# Torch's stubs leave the types of some members open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from recomind.errors import ConfigError
from recomind.policy import QNetwork
from recomind.types import QFunction, SessionState


@runtime_checkable
class EncodesStates(QFunction, Protocol):
    """A Q function that shows its encoding of a state; a `QNetwork` needs no such methods."""

    @property
    def state_width(self) -> int:
        """`M`."""
        ...

    def state_vector(self, state: SessionState) -> Tensor:
        """[B, M] encoding of `state` [B]."""
        ...


class ValueHead(nn.Module):
    """V(s) from an encoding [B, M], zero at first.

    No gradient passes into the encoding: the trunk belongs to the policy, and the errors of a value
    that is not yet learned would erase what the trunk has from the ranker.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.hidden, self.out = nn.Linear(width, hidden), nn.Linear(hidden, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, state_BM: Tensor) -> Tensor:
        """[B] values in units of reward."""
        normed_BM = self.norm(state_BM.detach())
        return self.out(torch.nn.functional.gelu(self.hidden(normed_BM)))[:, 0]


def make_head(network: QFunction, hidden: int) -> ValueHead:
    """A head for the network, the same one each time.

    Raises:
        ConfigError: the network does not show its encoding of a state.
    """
    if isinstance(network, QNetwork):
        width = network.trunk.config.hidden
    else:
        width = _encoder(network).state_width
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ValueHead(width, hidden)


def _encoder(network: QFunction) -> EncodesStates:
    if not isinstance(network, EncodesStates):
        raise ConfigError(
            "an actor-critic needs an encoding of the state",
            got=type(network).__name__,
            expected="a QNetwork, or a network with `state_width` and `state_vector(state)`",
        )
    return network


def encoded(network: QFunction, state: SessionState) -> Tensor:
    """[B, M], the input of the head."""
    if isinstance(network, QNetwork):
        return network.trunk.encode_state(state).hidden_BM
    return _encoder(network).state_vector(state)


def scored(
    network: QFunction, state: SessionState, item_id: Tensor, utility_BK: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Encoding [B, M], q [B, K] and utility [B, K]; each state is encoded once.

    Where the utility is given, a `QNetwork` does not ask its frozen ranker.
    """
    if not isinstance(network, QNetwork):
        return _encoder(network).state_vector(state), *network.q_values(state, item_id)
    if utility_BK is not None:
        trunk = network.trunk.encode_state(state)
        return trunk.hidden_BM, network.q_of_items(trunk, item_id, utility_BK), utility_BK
    encoding = network.encode_state(state)
    return encoding.trunk.hidden_BM, *network.score_encoded(encoding, item_id)


@torch.no_grad()
def values_of(
    network: QFunction, head: ValueHead, state: SessionState, chunk: int = 1024
) -> Tensor:
    """[B] values on the CPU, in chunks of states."""
    device = head.out.weight.device
    parts = state.split(chunk)  # type: ignore[attr-defined]
    return torch.cat([head(encoded(network, part.to(device))).cpu() for part in parts])
