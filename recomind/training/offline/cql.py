"""Conservative Q-learning for discrete actions, over candidate sets.

Kumar, Zhou, Tucker, Levine: "Conservative Q-Learning for Offline Reinforcement Learning", NeurIPS
2020, arXiv:2006.04779, equation 4, with a temperature and over a pool in place of all actions (both
ours):

    loss = TD + alpha mean of ( tau log sum over the pool of exp(q / tau) - q(shown) )

The penalty lowers what the logs do not show, so that the maximum of the TD target is not taken
where nothing has been seen. Its target is that of Q-learning here, inside the support.
"""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from torch import Tensor

from recomind.policy import supported_values
from recomind.training.offline.algorithm import OfflineAlgorithm, OfflineAlgorithmConfig
from recomind.training.offline.columns import from_columns
from recomind.training.offline.config import OfflineConfig
from recomind.training.offline.logs import LoggedBatch
from recomind.training.rl_module import SessionModule
from recomind.training.session_config import RLAlgorithm
from recomind.types import QFunction, Transition

METRICS = ("loss", "td_loss", "penalty", "q_mean", "target_mean")


def cql_loss(
    network: QFunction,
    target_network: QFunction,
    batch: LoggedBatch,
    config: OfflineConfig,
    *,
    support_ratio: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and detached scalars worth watching.

    Args:
        network: learns, and picks the next item.
        target_network: values the item that was picked.
        batch: [B] logged decisions.
        config: temperature and weight of the penalty.
        support_ratio: rho of the support in which the next item is picked.
    """
    pool, transition = batch.candidates, batch.transition
    q_BK, _ = network.q_values(transition.state, pool.item_id)
    target_B = supported_target(network, target_network, transition, support_ratio)
    td_loss = torch.nn.functional.smooth_l1_loss(q_BK[:, 0], target_B)
    scaled_BK = (q_BK / config.temperature).masked_fill(~pool.mask, -torch.inf)
    penalty = (config.temperature * scaled_BK.logsumexp(1) - q_BK[:, 0]).mean()
    loss = td_loss + config.conservatism * penalty
    return loss, {
        "loss": loss.detach(),
        "td_loss": td_loss.detach(),
        "penalty": penalty.detach(),
        "q_mean": q_BK.detach()[:, 0].mean(),
        "target_mean": target_B.mean(),
    }


@torch.no_grad()
def supported_target(
    network: QFunction, target_network: QFunction, transition: Transition, support_ratio: float
) -> Tensor:
    """[B] `r + discount * Q_target(s', a*)`, `a*` the network's best supported candidate at s'."""
    state, pool = transition.next_state, transition.next_candidates
    values = supported_values(network, state, pool.item_id, pool.mask, support_ratio)
    best_B1 = values.q_BK.masked_fill(~values.allowed_BK, -torch.inf).argmax(1, keepdim=True)
    value_B = target_network.q_values(state, pool.item_id.gather(1, best_B1))[0][:, 0]
    return transition.reward + transition.discount * value_B * pool.mask.any(1)


class CQLModule(SessionModule):
    """The network under `cql_loss`."""

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        del kwargs
        loss, metrics = cql_loss(
            self.network,
            self.target,
            from_columns(batch),
            self.model_config["offline"],
            support_ratio=self._support_ratio,
        )
        return {"loss": loss, "metrics": metrics}


class SessionCQLConfig(OfflineAlgorithmConfig):
    """Configuration of `SessionCQL`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or SessionCQL)

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module that holds the problem's network."""
        return RLModuleSpec(module_class=CQLModule, model_config=self.module_settings)


class SessionCQL(OfflineAlgorithm):
    """Conservative Q-learning on logged sessions."""

    metric_names = METRICS

    @classmethod
    def get_default_config(cls) -> SessionCQLConfig:
        """Without a problem; call `.session()` on it."""
        return SessionCQLConfig()


ALGORITHM = RLAlgorithm(config=SessionCQLConfig, from_logs=True)
