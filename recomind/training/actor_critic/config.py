"""Settings of the actor-critic."""

from __future__ import annotations

from dataclasses import dataclass

from recomind.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class ActorCriticConfig:
    """The actor-critic's own settings.

    Sessions, rollout, batch, discount, support ratio, gradient clipping and averaging of the
    weights come from `TrainingConfig`; it uses no replay, exploration rate or n-step return.
    """

    temperature: float = 0.05  # tau of softmax((utility + residual) / tau), in units of reward
    kl_coefficient: float = 0.05  # weight of KL(policy || initial policy); 0 drops the term
    learning_rate: float = 3e-4  # for the residual, by Adam
    value_learning_rate: float = 1e-3  # for the value head
    gae_lambda: float = 0.9  # 0: one-step advantages, 1: whole returns of the rollout
    num_epochs: int = 2  # passes over each rollout
    clip_ratio: float = 0.2  # relative change of a probability within one rollout
    top_k: int = 1  # items of the policy shown at once; 1 in a feed of single items
    warmup_rollouts: int = 2  # first rollouts, from which only the value head learns
    value_hidden: int = 64  # units of the value head's hidden layer

    def __post_init__(self) -> None:
        for name in ("temperature", "learning_rate", "value_learning_rate", "clip_ratio"):
            self._check(name, getattr(self, name) > 0.0, "> 0")
        for name in ("num_epochs", "top_k", "value_hidden"):
            self._check(name, getattr(self, name) >= 1, ">= 1")
        for name in ("kl_coefficient", "warmup_rollouts"):
            self._check(name, getattr(self, name) >= 0, ">= 0")
        self._check("gae_lambda", 0.0 <= self.gae_lambda <= 1.0, "in [0, 1]")

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ConfigError(
                f"training.actor_critic.{name}", got=getattr(self, name), expected=expected
            )
