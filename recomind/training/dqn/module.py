"""The RLlib module of Q-learning."""

from __future__ import annotations

from typing import Any

from recomind.training.dqn.columns import WEIGHT, to_transition
from recomind.training.dqn.loss import td_loss
from recomind.training.rl_module import SessionModule


class SessionQModule(SessionModule):
    """The network under the temporal-difference loss."""

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        del kwargs
        transition = to_transition(batch)
        loss, metrics = td_loss(
            self.network,
            self.target,
            transition,
            support_ratio=self._support_ratio,
            weight_B=batch.get(WEIGHT),
        )
        return {"loss": loss, "td_error": metrics.pop("td_error"), "metrics": metrics}
