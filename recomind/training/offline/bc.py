"""Behaviour cloning: the network's softmax over a pool imitates what the logs show.

    loss = - mean of log pi(shown | s, pool),   pi = softmax(q / temperature)

Greedy in the clone is the logging policy without its exploration. That is the rival which every
other way of learning from logs has to beat.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from torch import Tensor

from recomind.training.actor_critic.acting import log_policy
from recomind.training.offline.algorithm import OfflineAlgorithm, OfflineAlgorithmConfig
from recomind.training.offline.columns import from_columns
from recomind.training.offline.config import OfflineConfig
from recomind.training.offline.logs import LoggedBatch
from recomind.training.rl_module import SessionModule
from recomind.training.session_config import RLAlgorithm
from recomind.types import QFunction

METRICS = ("loss", "agreement")


def bc_loss(
    network: QFunction, batch: LoggedBatch, config: OfflineConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and the share of decisions in which the clone's first choice is what was shown."""
    pool = batch.candidates
    q_BK, _ = network.q_values(batch.transition.state, pool.item_id)
    log_pi_BK = log_policy(q_BK, pool.mask, config.temperature)
    loss = -log_pi_BK[:, 0].mean()
    agreement = (log_pi_BK.detach().argmax(1) == 0).float().mean()
    return loss, {"loss": loss.detach(), "agreement": agreement}


class BCModule(SessionModule):
    """The network under `bc_loss`."""

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        del kwargs
        loss, metrics = bc_loss(self.network, from_columns(batch), self.model_config["offline"])
        return {"loss": loss, "metrics": metrics}


class SessionBCConfig(OfflineAlgorithmConfig):
    """Configuration of `SessionBC`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or SessionBC)

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module that holds the problem's network."""
        return RLModuleSpec(module_class=BCModule, model_config=self.module_settings)


class SessionBC(OfflineAlgorithm):
    """Behaviour cloning on logged sessions."""

    metric_names = METRICS

    @classmethod
    def get_default_config(cls) -> SessionBCConfig:
        """Without a problem; call `.session()` on it."""
        return SessionBCConfig()


ALGORITHM = RLAlgorithm(config=SessionBCConfig, from_logs=True)
