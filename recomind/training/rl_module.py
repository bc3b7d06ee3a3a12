"""The RLlib module: the network that learns, and its target copy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule

from recomind.training.columns import WEIGHT, to_transition
from recomind.training.loss import td_loss
from recomind.training.target import TargetCopy, as_arrays, load_trainable, trainable, writable


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
            weight_B=batch.get(WEIGHT),
        )
        return {"loss": loss, "td_error": metrics.pop("td_error"), "metrics": metrics}

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
