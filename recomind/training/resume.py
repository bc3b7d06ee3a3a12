"""The part of a run's state that RLlib does not keep, so that a run resumes bit for bit."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import numpy as np
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from recomind.training.checkpoint import catalogue_identity
from recomind.training.learner import SessionLearner
from recomind.training.rows import RowMemory, SessionRows
from recomind.training.runner import SessionRunner
from recomind.training.seeding import LANE_REPLAY, run_generator
from recomind.training.session_config import SessionConfig

_PROBE_S = 2.0  # how long a restarted process may take to answer; training goes on meanwhile
SESSION = "session"  # what RLlib's own checkpoints do not hold: memories, counters, runners


class ResumableAlgorithm(Algorithm):
    """An algorithm whose memories and counters are part of its checkpoints.

    `save_to_path` and `restore_from_path` are RLlib's and write pickles, for Tune on your own
    machine; `training_state` goes into the checkpoints that can be shared.
    """

    def setup(self, config: Any) -> None:
        """RLlib's setup, then empty memories and counters."""
        super().setup(config)
        self.session_config = cast(SessionConfig, self.config)
        self.settings = self.session_config.session_settings
        self.num_env_steps = self.num_updates = 0
        self._returns: list[float] = []  # returns of sessions that ended since the last report
        self._behind = [0, 0]  # most updates and events that the acting weights lagged behind
        self._generator = run_generator(self.session_config.session_seed, LANE_REPLAY)
        self._memories = [self._new_memory() for _ in range(max(1, self.settings.num_runners))]

    def _new_memory(self) -> RowMemory:
        """An empty memory for the rows of one runner."""
        raise NotImplementedError

    @property
    def runner(self) -> SessionRunner | None:
        """The runner of this process; None where runners are in other processes."""
        return cast("SessionRunner | None", self.env_runner)

    @property
    def runners(self) -> EnvRunnerGroup:
        """All runners."""
        return cast(EnvRunnerGroup, self.env_runner_group)

    @property
    def learner(self) -> SessionLearner | None:
        """The learner of this process; None where learners are in other processes."""
        return cast("SessionLearner | None", self.learners._learner)

    @property
    def learners(self) -> LearnerGroup:
        """All learners."""
        return cast(LearnerGroup, self.learner_group)

    @property
    def lost_learners(self) -> bool:
        """Whether a learner in another process no longer answers."""
        if self.learner is not None:
            return False
        ask: Any = lambda learner: learner is not None  # noqa: E731, RLlib's type is narrower
        found: Any = self.learners.foreach_learner(ask)
        return sum(result.ok for result in found) < self.settings.num_learners

    def on_runners(self, method: Any, kwargs: Any = None) -> list[Any]:
        """Call a method of every runner in another process, and wait for the answers."""
        return self.runners.foreach_env_runner(method, kwargs=kwargs, local_env_runner=False)

    def sync_weights(self) -> None:
        """Send the newest weights to every runner."""
        raise NotImplementedError

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Readmit runners that Ray has restarted; called by RLlib after each iteration.

        RLlib's own method sends weights without their number, and waits half a minute for each
        runner that finds no node to start on.
        """
        restored = env_runner_group.probe_unhealthy_env_runners(timeout_seconds=_PROBE_S)
        if restored and env_runner_group is self.env_runner_group:
            self.sync_weights()
        return restored

    def note_staleness(self, rows: SessionRows) -> None:
        """Compare the weights that produced `rows` with the newest."""
        updates = self.num_updates - max(0, rows.weights_seq_no)
        events = self.num_env_steps - rows.weights_env_steps
        self._behind = [max(self._behind[0], updates), max(self._behind[1], events)]

    def take_staleness(self) -> dict[str, float]:
        """The largest lag of acting weights behind the learner's since the last call.

        Synchronisation blocks, so no runner is behind by an update unless Ray restarted it in the
        middle of a round; events are those of the round that the weights acted in.
        """
        updates, events = self._behind
        self._behind = [0, 0]
        return {"weights_behind_updates": updates, "weights_behind_env_steps": events}

    def catalogue_identity(self) -> str:
        """Identity of the catalogue in the runners' environments."""
        identity: Any = lambda runner: catalogue_identity(runner.environment.catalogue)  # noqa: E731
        if self.runner is not None:
            return identity(self.runner)
        return self.runners.foreach_env_runner(identity, local_env_runner=False)[0]

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state and, under "session", what a run needs to continue exactly."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(SESSION, components, not_components):
            state[SESSION] = self._session_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        super().set_state(state)
        if SESSION in state:
            self._set_session_state(state[SESSION])

    def training_state(self) -> dict[str, Any]:
        """All that `set_training_state` needs: numbers, strings and arrays.

        The arrays of the memories are views: write the state to disk before training goes on.
        """
        parts = [f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", f"{COMPONENT_LEARNER}/optimizer"]
        learner = self.learners.get_state(parts)[COMPONENT_LEARNER]
        learner.pop("should_module_be_updated", None)
        return {COMPONENT_LEARNER: learner, SESSION: self._session_state()}

    def set_training_state(self, state: dict[str, Any]) -> None:
        """Continue where `training_state` was taken."""
        self.learners.set_state({COMPONENT_LEARNER: state[COMPONENT_LEARNER]})
        self._set_session_state(state[SESSION])

    def _session_state(self) -> dict[str, Any]:
        here = self.runner
        return {
            "num_env_steps": self.num_env_steps,
            "num_updates": self.num_updates,
            "returns": list(self._returns),
            "generator": self._generator.get_state().numpy(),
            "replays": [
                {name: value.numpy() for name, value in memory.state_dict().items()}
                for memory in self._memories
            ],
            "runners": [here.get_state()] if here else self._runner_states(),
        }

    def _runner_states(self) -> list[dict[str, Any] | None]:
        """The state of each runner; None for a dead one, whose sessions are lost."""
        ask: Any = lambda runner: (runner.worker_index, runner.get_state())  # noqa: E731
        found = dict(self.runners.foreach_env_runner(ask, local_env_runner=False))
        return [found.get(index + 1) for index in range(self.settings.num_runners)]

    def _set_session_state(self, state: dict[str, Any]) -> None:
        self.num_env_steps, self.num_updates = state["num_env_steps"], state["num_updates"]
        self._returns = list(state["returns"])
        self._generator.set_state(torch.from_numpy(np.array(state["generator"])))
        for memory, columns in zip(self._memories, state["replays"], strict=True):
            memory.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in columns.items()})
        if self.runner is not None:
            self.runner.set_state(state["runners"][0])
        # The weights of another run may have the same number as those in the runners.
        self.on_runners(_forget_weights)
        for index, runner in enumerate(state["runners"], 1):
            if self.runner is None and runner is not None:
                self.runners.foreach_env_runner(
                    "set_state",
                    kwargs={"state": runner},
                    remote_worker_ids=[index],
                    local_env_runner=False,
                )
        self.sync_weights()


def _forget_weights(runner: SessionRunner) -> None:
    runner.weights_seq_no = -1
