"""What every algorithm does: simulate lock-step sessions, learn, send the weights back.

RLlib's new API stack. `dqn/` and `actor_critic/` say what is learned, and how.
"""

from __future__ import annotations

import math
import time
from typing import Any, cast

from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    WEIGHTS_SEQ_NO,
)

from recomind.errors import RecomindError
from recomind.training.problem import SessionProblem
from recomind.training.resume import ResumableAlgorithm
from recomind.training.rows import SessionRows
from recomind.training.target import load_trainable, trainable
from recomind.types import TrainableQFunction

_RESTART_S = 120.0  # a restarted process first imports torch and Ray


class SessionAlgorithm(ResumableAlgorithm):
    """The loop; a subclass brings `_new_memory`, `_learn` and the names of its metrics."""

    metric_names: tuple[str, ...]  # names of the scalars that its loss reports

    def setup(self, config: Any) -> None:
        """Build runners, learners and replays; called by RLlib."""
        super().setup(config)
        self.report: dict[str, float] = {}  # metrics of the last iteration
        self._copy: TrainableQFunction | None = None  # copy of a network that learns elsewhere
        if self._shares_network() and self.runner and self.learner:
            self.runner.share_network(self.learner.session_module.network)
        self.sync_weights()

    def training_step(self) -> None:
        """One iteration of `steps_per_iteration` events; called by RLlib."""
        goal = self._goal()
        while self.num_env_steps < goal:
            self._remember(self._simulate())
            self._learn()
            self.sync_weights()
        self._log_learning()

    def _goal(self) -> int:
        goal, total = (
            self.num_env_steps + self.settings.steps_per_iteration,
            self.settings.num_env_steps,
        )
        return min(goal, total) if self.num_env_steps < total else goal

    def _simulate(self) -> list[SessionRows]:
        """Rows of every runner that answers; waits for a restart only if none does."""
        patience_s = _RESTART_S if self.settings.restart_runners else 0.0
        deadline = time.monotonic() + patience_s
        while not (rows := self._sample()) and time.monotonic() < deadline:
            time.sleep(0.5)
            self.restore_env_runners(self.runners)
        return rows

    def _sample(self) -> list[SessionRows]:
        sampled: Any = synchronous_parallel_sample(
            worker_set=self.runners,
            concat=False,
            _uses_new_env_runners=True,
            _return_metrics=True,
        )
        rows, metrics = sampled
        self.metrics.aggregate(metrics, key=ENV_RUNNER_RESULTS)
        return [part for parts in rows for part in parts]

    def _remember(self, rows: list[SessionRows]) -> None:
        if not rows:
            raise RecomindError("no runner answers", mend="see their errors in the log of the run")
        for part in rows:
            self._memories[max(0, part.runner - 1)].add(part)
            self.num_env_steps += part.env_steps()
            self.note_staleness(part)
            self._returns.extend(part.returns)

    def _learn(self) -> None:
        """Learn from the simulated rows."""
        raise NotImplementedError

    def sync_weights(self) -> None:
        """Send the newest weights and counters to every runner; returns once all have them.

        Raises:
            RecomindError: a runner has other weights.
        """
        state: dict[str, Any] = {
            WEIGHTS_SEQ_NO: self.num_updates,
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps,
        }
        if not self._shares_network():
            state[COMPONENT_RL_MODULE] = {DEFAULT_MODULE_ID: self._weights()}
        if self.runner is not None:
            self.runner.set_state(state)
            return
        held = self.on_runners("receive", {"state": state})
        if any(number != self.num_updates for number in held):
            raise RecomindError("a runner lags behind", got=held, expected=self.num_updates)

    def _shares_network(self) -> bool:
        here = self.learner is not None and self.runner is not None
        return here and self.settings.learner_device.type == "cpu"

    def _weights(self, *, inference_only: bool = True) -> dict[str, Any]:
        part = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        state = self.learners.get_state(part, inference_only=inference_only)
        return state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID]

    def _log_learning(self) -> None:
        take: Any = lambda learner: learner.take_metrics()  # noqa: E731, RLlib's type is narrower
        found: Any = self.learners.foreach_learner(take)
        each = [result.get() for result in found]
        means = {k: sum(m.get(k, math.nan) for m in each) / len(each) for k in self.metric_names}
        returns, self._returns = self._returns, []
        means["simulated_return"] = sum(returns) / len(returns) if returns else math.nan
        means |= self.take_staleness()
        self.report = means | {"env_steps": self.num_env_steps, "updates": self.num_updates}
        for name, value in self.report.items():
            self.metrics.log_value((LEARNER_RESULTS, name), value, window=1)

    def trained_network(self) -> TrainableQFunction:
        """The network to use: the averaged target where `target_rate` is set, else the online one.

        An online network moves with every batch, so what it ranks first depends in part on the
        latest batches; averaging removes that noise (Polyak and Juditsky 1992).
        """
        averaged = self.settings.target_rate > 0
        here = self.settings.learner_device.type == "cpu"  # else a copy: actors are on processors
        if self.learner is not None and not averaged and here:
            return self.learner.session_module.network
        if self._copy is None:
            self._copy = cast(SessionProblem, self.session_config.session_problem).network().eval()
        if self.learner is not None:
            module = self.learner.session_module
            load_trainable(
                self._copy, module.target.tensors if averaged else trainable(module.network)
            )
        else:
            part = "target" if averaged else "network"
            load_trainable(self._copy, self._weights(inference_only=not averaged)[part])
        return self._copy
