"""Implicit Q-learning over candidate sets: no action is ever valued that the logs do not show.

Kostrikov, Nair, Levine: "Offline Reinforcement Learning with Implicit Q-Learning", ICLR 2022,
arXiv:2110.06169, equations 5 and 6:

    V   mean of |tau - 1(u < 0)| u^2,   u = Q_target(s, shown) - V(s)
    Q   mean of Huber( Q(s, shown) - (r + discount V(s')) )

The paper then fits a policy to Q by weighted regression. Ours: the network's Q itself ranks, inside
the support of ranker and logs, as that of every other algorithm does: one network, one export.
V is a head on the network's encoding of the state, through which no gradient passes.
"""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from torch import Tensor

from recomind.training.actor_critic.critic import ValueHead, encoded, make_head, scored
from recomind.training.offline.algorithm import OfflineAlgorithm, OfflineAlgorithmConfig
from recomind.training.offline.columns import from_columns
from recomind.training.offline.config import OfflineConfig
from recomind.training.offline.logs import LoggedBatch
from recomind.training.rl_module import ValueModule
from recomind.training.session_config import RLAlgorithm
from recomind.types import QFunction

METRICS = ("loss", "q_loss", "value_loss", "q_mean", "value_mean")


def iql_loss(
    network: QFunction,
    target_network: QFunction,
    head: ValueHead,
    batch: LoggedBatch,
    config: OfflineConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and detached scalars worth watching.

    Args:
        network: learns Q.
        target_network: an earlier network, whose Q the values follow.
        head: learns V.
        batch: [B] logged decisions.
        config: the expectile.
    """
    transition, shown_B1 = batch.transition, batch.transition.item_id[:, None]
    state_BM, q_B1, _ = scored(network, transition.state, shown_B1)
    with torch.no_grad():
        later_B = head(encoded(network, transition.next_state))
        goal_B = target_network.q_values(transition.state, shown_B1)[0][:, 0]
    q_loss = torch.nn.functional.smooth_l1_loss(
        q_B1[:, 0], transition.reward + transition.discount * later_B
    )
    value_B = head(state_BM)
    value_loss = expectile_loss(goal_B - value_B, config.expectile)
    loss = q_loss + value_loss
    return loss, {
        "loss": loss.detach(),
        "q_loss": q_loss.detach(),
        "value_loss": value_loss.detach(),
        "q_mean": q_B1.detach().mean(),
        "value_mean": value_B.detach().mean(),
    }


def expectile_loss(error_B: Tensor, expectile: float) -> Tensor:
    """Mean of squares, those of positive errors weighing `expectile`, the others the rest to 1."""
    return (torch.where(error_B < 0, 1.0 - expectile, expectile) * error_B.square()).mean()


class IQLModule(ValueModule):
    """The network under `iql_loss`, and a value head beside it."""

    head: ValueHead

    def setup(self) -> None:
        """Build network and value head; called by RLlib."""
        super().setup()
        self.settings: OfflineConfig = self.model_config["offline"]
        self.head = make_head(self.network, self.settings.value_hidden)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        del kwargs
        loss, metrics = iql_loss(
            self.network, self.target, self.head, from_columns(batch), self.settings
        )
        return {"loss": loss, "metrics": metrics}


class SessionIQLConfig(OfflineAlgorithmConfig):
    """Configuration of `SessionIQL`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or SessionIQL)

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module that holds the problem's network and a value head."""
        return RLModuleSpec(module_class=IQLModule, model_config=self.module_settings)


class SessionIQL(OfflineAlgorithm):
    """Implicit Q-learning on logged sessions."""

    metric_names = METRICS

    @classmethod
    def get_default_config(cls) -> SessionIQLConfig:
        """Without a problem; call `.session()` on it."""
        return SessionIQLConfig()


ALGORITHM = RLAlgorithm(config=SessionIQLConfig, from_logs=True)
