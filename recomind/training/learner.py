"""The RLlib learner: Adam on the trainable tensors, checks for NaN, and updates of the target."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.rl_module import RLModule
from torch import Tensor, nn

from recomind.errors import RecomindError
from recomind.training.config import TrainingConfig
from recomind.training.rl_module import SessionModule


class SessionLearner(TorchLearner):
    """Updates one `SessionModule`.

    RLlib's own learner metrics cost more than the rest of its overhead. Here the scalars of an
    update stay tensors and are reduced once, by `take_metrics`.
    """

    def build(self) -> None:
        """Build the module and the optimizer; called by RLlib."""
        self._sums: dict[str, Tensor] = {}
        self._num_summed = 0
        self._td_error = torch.zeros(0)  # for the last batch
        super().build()

    @property
    def settings(self) -> TrainingConfig:
        """Settings of this training run."""
        return self.config.session_settings  # type: ignore[attr-defined]

    @property
    def session_module(self) -> SessionModule:
        """The module, without the wrapper of DDP."""
        return self.module[DEFAULT_MODULE_ID].unwrapped()  # type: ignore[return-value]

    @property
    def num_updates(self) -> int:
        """Number of updates, over all restarts."""
        return self._weights_seq_no

    def get_parameters(self, module: RLModule) -> Sequence[Tensor]:
        """The parameters that learn; the frozen ranker has no optimizer state."""
        return [p for p in module.parameters() if p.requires_grad]  # type: ignore[attr-defined]

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Adam with a constant rate; called by RLlib."""
        del config
        parameters = list(self.get_parameters(self._module[module_id]))  # type: ignore[index]
        optimizer = torch.optim.Adam(parameters, lr=self.settings.learning_rate)
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=parameters)

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> Tensor:
        """Return the loss of the training pass, after checking it.

        Raises:
            RecomindError: it is not finite.
        """
        del module_id, config, batch
        self._check_finite("loss", fwd_out["loss"])
        for name, value in fwd_out["metrics"].items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._num_summed += 1
        self._td_error = fwd_out.get("td_error", self._td_error)
        return fwd_out["loss"]

    def apply_gradients(self, gradients_dict: dict[Any, Any]) -> None:
        """Clip to the norm and step.

        Raises:
            RecomindError: the norm is not finite; the weights are unchanged.
        """
        parameters = list(gradients_dict)
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm)
        self._check_finite("gradient", norm)
        for optimizer in self._optimizer_parameters:
            optimizer.step()

    def _check_finite(self, what: str, value: Tensor) -> None:
        if not bool(torch.isfinite(value)):
            raise RecomindError(
                f"the {what} is not finite",
                got=f"{value.item()} at update {self.num_updates}",
                mend="lower training.learning_rate, or check rewards and features for NaN and "
                "infinity",
            )

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Move the target, or copy the network to it when due; called by RLlib."""
        del timesteps
        if self.settings.target_rate > 0:
            self.session_module.target.move(self.session_module.network, self.settings.target_rate)
        elif self.num_updates % self.settings.target_update_every == 0:
            self.session_module.copy_to_target()

    def _log_steps_trained_metrics(self, batch: Any) -> None:
        del batch  # counted by the algorithm

    def td_error(self) -> np.ndarray:
        """Errors [B] of this learner's part of the last batch."""
        return self._td_error.cpu().numpy()

    def take_metrics(self) -> dict[str, float]:
        """Means over the updates since the last call."""
        means = {name: float(value) / self._num_summed for name, value in self._sums.items()}
        self._sums, self._num_summed = {}, 0
        return means

    def _set_optimizer_state(self, state: dict[str, Any]) -> None:
        # Adam works in place, and arrays from the object store are shared between learners.
        groups = [group for o in self._named_optimizers.values() for group in o.param_groups]
        rates = [group["lr"] for group in groups]
        super()._set_optimizer_state(copy.deepcopy(state))
        groups = [group for o in self._named_optimizers.values() for group in o.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate  # from the settings: Tune may continue with another rate

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore weights and optimizer, also from an older checkpoint."""
        self._weights_seq_no = 0  # RLlib accepts only weights with a higher number
        super().set_state(state)
