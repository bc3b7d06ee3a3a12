"""The RLlib module of every algorithm: the network that learns, and its target copy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import nn

from recomind.training.problem import SessionProblem
from recomind.training.target import TargetCopy, as_arrays, load_trainable, trainable, writable
from recomind.types import TrainableQFunction


class SessionModule(TorchRLModule):
    """Holds the network; a subclass computes its loss in `_forward`, as DDP demands."""

    network: TrainableQFunction
    _support_ratio: float

    def setup(self) -> None:
        """Build the network from the problem's recipe; called by RLlib."""
        problem: SessionProblem = self.model_config["problem"]
        self.network = problem.network()
        self._support_ratio = self.model_config["support_ratio"]
        self._target: TargetCopy | None = None

    @property
    def target(self) -> TargetCopy:
        """Created on first use, after the move to a device and DDP's broadcast."""
        if self._target is None:
            self._target = TargetCopy(self.network)
        return self._target

    def copy_to_target(self) -> None:
        """Reset the target to the present network."""
        self._target = TargetCopy(self.network)

    def train(self, mode: bool = True) -> SessionModule:
        """Stay in evaluation mode: dropout in the ranker would add noise to the targets."""
        del mode
        return super().train(False)

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
        online = as_arrays(trainable(self.network))
        if inference_only:
            return {"network": online}
        return {"network": online, "target": as_arrays(self.target.tensors)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_state` gave."""
        load_trainable(self.network, state["network"])
        if "target" in state:
            for name, tensor in self.target.tensors.items():
                tensor.copy_(writable(state["target"][name]))


class ValueModule(SessionModule):
    """The same with a value head beside the network; a subclass makes `head` in `setup`."""

    head: nn.Module

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        inference_only: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """That of every module here; the value head's too unless `inference_only`."""
        del components, not_components, kwargs
        state = super().get_state(inference_only=inference_only)
        return state if inference_only else state | {"head": as_arrays(self.head.state_dict())}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        super().set_state(state)
        if "head" in state:
            self.head.load_state_dict({k: writable(v) for k, v in state["head"].items()})
