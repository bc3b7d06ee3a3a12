"""The RLlib module and learner of the actor-critic."""

from __future__ import annotations

from typing import Any

import torch

from recomind.training.actor_critic.config import ActorCriticConfig
from recomind.training.actor_critic.critic import ValueHead, make_head
from recomind.training.actor_critic.loss import actor_critic_loss
from recomind.training.actor_critic.rollout import from_batch
from recomind.training.learner import SessionLearner
from recomind.training.rl_module import ValueModule


class SessionActorCriticModule(ValueModule):
    """The network, whose q over tau are the policy's logits, and a critic beside it."""

    head: ValueHead

    def setup(self) -> None:
        """Build network and value head; called by RLlib."""
        super().setup()
        self.settings: ActorCriticConfig = self.model_config["actor_critic"]
        self.head = make_head(self.network, self.settings.value_hidden)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        del kwargs
        events = from_batch(batch)
        loss, metrics = actor_critic_loss(self.network, self.head, events, self.settings)
        return {"loss": loss, "metrics": metrics}


class SessionActorCriticLearner(SessionLearner):
    """Adam with a rate for the policy and one for the value head."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Adam with constant rates; called by RLlib."""
        del config
        module = self._module[module_id]  # type: ignore[index]
        parameters = list(self.get_parameters(module))
        head = {id(p) for p in module.unwrapped().head.parameters()}  # type: ignore[attr-defined]
        settings = self.settings.actor_critic
        groups = [
            {"params": [p for p in parameters if id(p) not in head], "lr": settings.learning_rate},
            {
                "params": [p for p in parameters if id(p) in head],
                "lr": settings.value_learning_rate,
            },
        ]
        self.register_optimizer(
            module_id=module_id, optimizer=torch.optim.Adam(groups), params=parameters
        )
