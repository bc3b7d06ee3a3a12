"""SessionActorCritic: a policy gradient on lock-step sessions as an RLlib algorithm.

Simulation, network, bootstrap, support constraint, weight sync, checkpoints and averaged weights
are those of every algorithm here (`recomind.training.algorithm`).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

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
from recomind.training.problem import SessionProblem
from recomind.training.session_config import RLAlgorithm, SessionConfig
from recomind.training.target import load_trainable, writable
from recomind.types import TrainableQFunction


class SessionActorCriticConfig(SessionConfig):
    """Configuration of `SessionActorCritic`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or SessionActorCritic)
        self.env_runner_cls = SessionActorCriticRunner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module that holds the problem's network and a value head."""
        settings = self.module_settings | {"actor_critic": self.session_settings.actor_critic}
        return RLModuleSpec(module_class=SessionActorCriticModule, model_config=settings)

    def get_default_learner_class(self) -> type[SessionActorCriticLearner]:
        """The learner with a rate for the policy and one for the value head."""
        return SessionActorCriticLearner


class SessionActorCritic(SessionAlgorithm):
    """Simulate a rollout, judge it by the critic, learn from it a few times, discard it."""

    metric_names = METRICS

    @classmethod
    def get_default_config(cls) -> SessionActorCriticConfig:
        """Without a problem; call `.session()` on it."""
        return SessionActorCriticConfig()

    def setup(self, config: Any) -> None:
        """Build runners, learners and memories; called by RLlib."""
        # Copies of network and value head, where the learner is in another process.
        self._judge: tuple[TrainableQFunction, ValueHead] | None = None
        super().setup(config)

    def _new_memory(self) -> OnPolicyRows:
        return OnPolicyRows()

    @property
    def _rollouts(self) -> list[OnPolicyRows]:
        return cast(list[OnPolicyRows], self._memories)

    def _learn(self) -> None:
        """All epochs over the newest rollout; after the next one it would be off-policy."""
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

        In the first rollouts the advantages are 0, and so is the policy's gradient, as the KL term
        is at its minimum: an untrained critic would teach noise.
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
        """Shuffled indices in full batches; the rest is left to the next shuffle."""
        order = torch.randperm(num, generator=self._generator)
        size = min(self.settings.batch_size, num)
        return list(order[: num // size * size].view(-1, size))

    def _critic(self) -> tuple[TrainableQFunction, ValueHead]:
        """The present network and value head, in this process."""
        if self.learner is not None:
            module = cast(SessionActorCriticModule, self.learner.session_module)
            return module.network, module.head
        if self._judge is None:
            network = cast(SessionProblem, self.session_config.session_problem).network().eval()
            self._judge = network, make_head(network, self.settings.actor_critic.value_hidden)
        weights, (network, head) = self._weights(inference_only=False), self._judge
        load_trainable(network, weights["network"])
        head.load_state_dict({name: writable(value) for name, value in weights["head"].items()})
        return network, head


ALGORITHM = RLAlgorithm(config=SessionActorCriticConfig)
