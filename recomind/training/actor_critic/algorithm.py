"""SessionActorCritic: a policy gradient on lock-step sessions as an RLlib algorithm.

It shares simulation, network, bootstrap, support constraint, weight sync, checkpoints and the
averaged weights with `SessionDQN`; what it learns from, and how, is its own.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from torch import nn

from recomind.errors import RecomindError
from recomind.training.actor_critic.critic import ValueHead, make_head, values_of
from recomind.training.actor_critic.loss import METRICS
from recomind.training.actor_critic.module import (
    SessionActorCriticLearner,
    SessionActorCriticModule,
)
from recomind.training.actor_critic.rollout import OnPolicyRows, PolicyBatch, joined, to_batch
from recomind.training.actor_critic.runner import SessionActorCriticRunner
from recomind.training.algorithm import SessionAlgorithm
from recomind.training.algorithm_config import SessionDQNConfig
from recomind.training.problem import SessionProblem
from recomind.training.target import load_trainable, writable


class SessionActorCriticConfig(SessionDQNConfig):
    """Configuration of `SessionActorCritic`; `session()` sets everything from our own settings."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or SessionActorCritic)
        self.env_runner_cls = SessionActorCriticRunner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module that holds the problem's network and a value head."""
        settings = {
            "problem": self.session_problem,
            "support_ratio": self.session_settings.support_ratio,
            "actor_critic": self.session_settings.actor_critic,
        }
        return RLModuleSpec(module_class=SessionActorCriticModule, model_config=settings)

    def get_default_learner_class(self) -> type[SessionActorCriticLearner]:
        """Ours."""
        return SessionActorCriticLearner


class SessionActorCritic(SessionAlgorithm):
    """Simulate a rollout, judge it, learn from it a few times, forget it."""

    metric_names = METRICS

    @classmethod
    def get_default_config(cls) -> SessionActorCriticConfig:
        """Without a problem; call `.session()` on it."""
        return SessionActorCriticConfig()

    def setup(self, config: Any) -> None:
        """Build what is shared; called by RLlib."""
        self._judge: tuple[nn.Module, ValueHead] | None = None  # where the learner is elsewhere
        super().setup(config)

    def _new_replay(self) -> OnPolicyRows:  # type: ignore[override]
        return OnPolicyRows()

    @property
    def _rollouts(self) -> list[OnPolicyRows]:
        return cast(list[OnPolicyRows], self._replays)

    def _learn(self) -> None:
        """All epochs over the newest rollout; with the next one it would be off its policy."""
        filled = [rows for rows in self._rollouts if len(rows)]
        if not filled:
            return
        batch = self._judged(filled)
        for _ in range(self.settings.actor_critic.num_epochs):
            for index in self._minibatches(len(batch)):
                self.learners.update(
                    batch=to_batch(batch.take(index), numpy=self.learner is None),
                    _no_metrics_reduce=True,
                )
                self.num_updates += 1

    def _judged(self, filled: list[OnPolicyRows]) -> PolicyBatch:
        """Events of all runners with normalised advantages.

        In the first rollouts the advantages are 0, and so is the policy's gradient: the leash is
        at its minimum there. A critic that knows nothing would teach luck.
        """
        settings = self.settings.actor_critic
        network, head = self._critic()
        parts = []
        for rows in filled:
            value_TB = values_of(network, head, rows.states()).view(rows.shape())
            parts.append(rows.batch(value_TB, self.settings.gamma, settings.gae_lambda))
        batch = joined(parts)
        advantage = batch.advantage
        if not bool(advantage.isfinite().all()):
            raise RecomindError("an advantage is not finite", got=f"update {self.num_updates}")
        spread = advantage.std(unbiased=False).clamp(min=1e-6)
        batch.advantage = (advantage - advantage.mean()) / spread * self._is_warm()
        return batch

    def _is_warm(self) -> bool:
        rollout = self.settings.num_sessions * self.settings.rollout_length
        seen = rollout * max(1, self.settings.num_runners)
        return self.num_env_steps > self.settings.actor_critic.warmup_rollouts * seen

    def _minibatches(self, num: int) -> list[torch.Tensor]:
        """Shuffled indices in full batches; what is left over waits for another shuffle."""
        order = torch.randperm(num, generator=self._generator)
        size = min(self.settings.batch_size, num)
        return list(order[: num // size * size].view(-1, size))

    def _critic(self) -> tuple[nn.Module, ValueHead]:
        """Network and value head of now, in this process."""
        if self.learner is not None:
            module = cast(SessionActorCriticModule, self.learner.q_module)
            return module.network, module.head
        if self._judge is None:
            network = cast(SessionProblem, self.session_config.session_problem).network().eval()
            self._judge = network, make_head(network, self.settings.actor_critic.value_hidden)
        weights, (network, head) = self._weights(inference_only=False), self._judge
        load_trainable(network, weights["network"])
        head.load_state_dict({name: writable(value) for name, value in weights["head"].items()})
        return network, head
