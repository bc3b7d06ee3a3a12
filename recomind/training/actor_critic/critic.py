"""The critic: a value of a state, read off the policy's own encoding of it.

`B` states, `M` width of an encoding, `K` candidates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recomind.errors import ConfigError
from recomind.policy import QNetwork
from recomind.types import SessionState


class ValueHead(nn.Module):
    """V(s) from an encoding [B, M], zero at first.

    It sees the encoding without passing a gradient into it: the trunk belongs to the policy, and
    errors of a value that is still to be learnt would wash out what it has of the ranker.
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


def make_head(network: nn.Module, hidden: int) -> ValueHead:
    """A head for the network, the same one each time.

    Raises:
        ConfigError: the network does not say what its states look like.
    """
    if isinstance(network, QNetwork):
        width: Any = network.trunk.config.hidden
    else:
        width = getattr(network, "state_width", None)
    if width is None or not (isinstance(network, QNetwork) or hasattr(network, "state_vector")):
        raise ConfigError(
            "an actor-critic needs an encoding of the state",
            got=type(network).__name__,
            expected="a QNetwork, or a network with `state_width` and `state_vector(state)`",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ValueHead(int(width), hidden)


def encoded(network: Any, state: SessionState) -> Tensor:
    """[B, M] what the head reads."""
    if isinstance(network, QNetwork):
        return network.encode_state(state).trunk.hidden_BM
    return network.state_vector(state)


def scored(network: Any, state: SessionState, item_id: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Encoding [B, M], q [B, K] and utility [B, K]; each state is encoded once."""
    if isinstance(network, QNetwork):
        encoding = network.encode_state(state)
        return encoding.trunk.hidden_BM, *network.score_encoded(encoding, item_id)
    return network.state_vector(state), *network.q_values(state, item_id)


@torch.no_grad()
def values_of(network: Any, head: ValueHead, state: SessionState, chunk: int = 1024) -> Tensor:
    """[B] values on the CPU, in chunks of states."""
    device = head.out.weight.device
    parts = state.split(chunk)  # type: ignore[attr-defined]
    return torch.cat([head(encoded(network, part.to(device))).cpu() for part in parts])
