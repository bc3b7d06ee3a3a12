"""SessionDQN: Q-learning on lock-step sessions as an RLlib algorithm."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.sample_batch import MultiAgentBatch

from recomind.training.algorithm import SessionAlgorithm
from recomind.training.dqn.columns import to_batch
from recomind.training.dqn.loss import METRICS
from recomind.training.dqn.module import SessionQModule
from recomind.training.dqn.prioritised import PrioritisedReplay, draw_across, note_errors
from recomind.training.dqn.reference import ReferenceTrainer
from recomind.training.dqn.replay import SessionReplay, sample_across
from recomind.training.session_config import RLAlgorithm, SessionConfig


class SessionDQNConfig(SessionConfig):
    """Configuration of `SessionDQN`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or SessionDQN)

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module that holds the problem's network."""
        return RLModuleSpec(module_class=SessionQModule, model_config=self.module_settings)


class SessionDQN(SessionAlgorithm):
    """Q-learning from a replay: see `recomind.training.dqn.loss`."""

    metric_names = METRICS

    @classmethod
    def get_default_config(cls) -> SessionDQNConfig:
        """Without a problem; call `.session()` on it."""
        return SessionDQNConfig()

    def _new_memory(self) -> SessionReplay:
        settings = self.settings
        sizes = {"num_rows": settings.replay_rows, "n_step": settings.n_step}
        if settings.prioritised > 0:
            return PrioritisedReplay(**sizes, gamma=settings.gamma, alpha=settings.prioritised)
        return SessionReplay(**sizes, gamma=settings.gamma)

    @property
    def _replays(self) -> list[SessionReplay]:
        return cast(list[SessionReplay], self._memories)

    def _learn(self) -> None:
        """Catch up with the updates that are due."""
        behind = self.num_env_steps - self.settings.learning_starts
        due = behind // self.settings.env_steps_per_update - self.num_updates
        replays = self._replays
        if not any(len(replay) for replay in replays):
            return
        for _ in range(due):
            if self.settings.prioritised > 0:
                self._update_prioritised()
            else:
                batch = sample_across(replays, self.settings.batch_size, self._generator)
                self._update(to_batch(batch, numpy=self.learner is None))

    def _update(self, batch: MultiAgentBatch) -> None:
        self.learners.update(batch=batch, _no_metrics_reduce=True)
        self.num_updates += 1

    def _update_prioritised(self) -> None:
        batch, weight, drawn = draw_across(
            cast(list[PrioritisedReplay], self._replays),
            self.settings.batch_size,
            self._generator,
            self.settings.importance(self.num_env_steps),
        )
        self._update(to_batch(batch, numpy=self.learner is None, weight=weight))
        ask: Any = lambda learner: learner.td_error()  # noqa: E731, RLlib's type is narrower
        found: Any = self.learners.foreach_learner(ask)  # in the order of the batch's parts
        errors = [torch.from_numpy(np.array(result.get())) for result in found]
        note_errors(drawn, torch.cat(errors))


ALGORITHM = RLAlgorithm(config=SessionDQNConfig, reference=ReferenceTrainer)
