"""The RLlib module: the network that learns, and its target copy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn

from recomind.errors import ConfigError
from recomind.training.columns import to_transition
from recomind.training.loss import td_loss
from recomind.types import SessionState


class TargetCopy:
    """The network with the trainable tensors of an earlier time.

    Only those are copied: the frozen ranker, its embedding tables and the catalogue are shared.
    """

    def __init__(self, network: nn.Module) -> None:
        self._call = _QValuesCall(network)
        self.tensors = {k: v.detach().clone() for k, v in trainable(network).items()}

    @torch.no_grad()
    def move(self, network: nn.Module, rate: float) -> None:
        """Go `rate` of the way to the network: an exponential average of its past weights."""
        for name, tensor in trainable(network).items():
            self.tensors[name].lerp_(tensor.detach(), rate)

    def q_values(self, state: SessionState, item_id: Tensor) -> tuple[Tensor, Tensor]:
        """Q [B, K] of the earlier network, and the utility [B, K]."""
        tensors = {f"network.{name}": value for name, value in self.tensors.items()}
        return torch.func.functional_call(self._call, tensors, (state, item_id))


class _QValuesCall(nn.Module):
    """`q_values` as a forward pass, which `functional_call` needs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, state: SessionState, item_id: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.q_values(state, item_id)  # type: ignore[operator]


def trainable(network: nn.Module) -> dict[str, Tensor]:
    """The parameters that learn, by name; nothing else ever travels or is saved.

    Raises:
        ConfigError: there are none.
    """
    found: dict[str, Tensor] = {
        name: p for name, p in network.named_parameters() if p.requires_grad
    }
    if not found:
        raise ConfigError("nothing to train", got=type(network).__name__, expected="parameters")
    return found


def load_trainable(network: nn.Module, tensors: Mapping[str, Any]) -> None:
    """Copy values into the parameters that learn.

    Raises:
        ConfigError: the names differ, so the tensors are of another network.
    """
    parameters = trainable(network)
    if parameters.keys() != tensors.keys():
        differ = sorted(parameters.keys() ^ tensors.keys())
        raise ConfigError(
            "weights of another network", got=differ[:5], expected="the same parameter names"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(_writable(tensors[name]))


def _writable(value: Any) -> Tensor:
    """A tensor of its own: torch warns of arrays from Ray's object store, which are read-only."""
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))


class SessionQModule(TorchRLModule):
    """Holds the network and computes the loss in its training pass, as DDP demands."""

    def setup(self) -> None:
        """Build the network from the problem's recipe; called by RLlib."""
        self.network = self.model_config["problem"].network()
        self._support_ratio = self.model_config["support_ratio"]
        self._target: TargetCopy | None = None

    @property
    def target(self) -> TargetCopy:
        """Made at first use: after the move to a device and DDP's broadcast."""
        if self._target is None:
            self._target = TargetCopy(self.network)
        return self._target

    def copy_to_target(self) -> None:
        """Let the target be the network of now."""
        self._target = TargetCopy(self.network)

    def train(self, mode: bool = True) -> SessionQModule:
        """Stay in evaluation mode: dropout, if the ranker had any, would put noise in targets."""
        del mode
        return super().train(False)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        del kwargs
        transition = to_transition(batch)
        loss, metrics = td_loss(
            self.network,  # type: ignore[arg-type]
            self.target,
            transition,
            support_ratio=self._support_ratio,
        )
        return {"loss": loss, "metrics": metrics}

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        inference_only: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Numpy copies of the trainable tensors; of the target's too unless `inference_only`."""
        del components, not_components, kwargs
        online = {k: v.detach().cpu().numpy().copy() for k, v in trainable(self.network).items()}
        if inference_only:
            return {"network": online}
        target = {k: v.cpu().numpy().copy() for k, v in self.target.tensors.items()}
        return {"network": online, "target": target}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_state` gave."""
        load_trainable(self.network, state["network"])
        if "target" in state:
            for name, tensor in self.target.tensors.items():
                tensor.copy_(_writable(state["target"][name]))
