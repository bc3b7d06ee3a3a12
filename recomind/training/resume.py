"""The state of a run beyond what RLlib keeps of it, so that it goes on bit for bit."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import numpy as np
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from recomind.training.algorithm_config import SessionDQNConfig
from recomind.training.learner import SessionLearner
from recomind.training.replay import SessionReplay
from recomind.training.runner import SessionRunner
from recomind.training.seeding import LANE_REPLAY, run_generator

SESSION = "session"  # what RLlib's own checkpoints do not hold: replay, counters, runners


class ResumableAlgorithm(Algorithm):
    """An algorithm with replays and counters that checkpoints hold.

    `save_to_path` and `restore_from_path` are RLlib's and write pickles, for Tune on one's own
    machine; `training_state` is what goes into a checkpoint that can be handed on.
    """

    def setup(self, config: Any) -> None:
        """Build what is built in RLlib, and empty replays."""
        super().setup(config)
        self.session_config = cast(SessionDQNConfig, self.config)
        self.settings = self.session_config.session_settings
        self.num_env_steps = self.num_updates = 0
        self._returns: list[float] = []  # of sessions that ended since the last report
        self._generator = run_generator(self.session_config.session_seed, LANE_REPLAY)
        self._replays = [self._new_replay() for _ in range(max(1, self.settings.num_runners))]

    def _new_replay(self) -> SessionReplay:
        return SessionReplay(
            num_rows=self.settings.replay_rows,
            n_step=self.settings.n_step,
            gamma=self.settings.gamma,
        )

    @property
    def runner(self) -> SessionRunner | None:
        """The runner of this process, if there is one."""
        return cast("SessionRunner | None", self.env_runner)

    @property
    def runners(self) -> EnvRunnerGroup:
        """All of them."""
        return cast(EnvRunnerGroup, self.env_runner_group)

    @property
    def learner(self) -> SessionLearner | None:
        """The learner of this process, if it is here."""
        return cast("SessionLearner | None", self.learners._learner)

    @property
    def learners(self) -> LearnerGroup:
        """All of them."""
        return cast(LearnerGroup, self.learner_group)

    def on_runners(self, method: str, kwargs: Any = None) -> list[Any]:
        """Call a method of every runner in another process and wait for the answers."""
        return self.runners.foreach_env_runner(method, kwargs=kwargs, local_env_runner=False)

    def sync_weights(self) -> None:
        """Bring every runner up to date."""
        raise NotImplementedError

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state and, under "session", what a run needs to go on exactly."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(SESSION, components, not_components):
            state[SESSION] = self._session_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_state` gave."""
        super().set_state(state)
        if SESSION in state:
            self._set_session_state(state[SESSION])

    def training_state(self) -> dict[str, Any]:
        """All that `set_training_state` needs: numbers, strings and arrays.

        The replay's arrays are views: write the state to disk before training goes on.
        """
        parts = [f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", f"{COMPONENT_LEARNER}/optimizer"]
        learner = self.learners.get_state(parts)[COMPONENT_LEARNER]
        learner.pop("should_module_be_updated", None)
        return {COMPONENT_LEARNER: learner, SESSION: self._session_state()}

    def set_training_state(self, state: dict[str, Any]) -> None:
        """Go on where `training_state` was taken."""
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
                {name: value.numpy() for name, value in replay.state_dict().items()}
                for replay in self._replays
            ],
            "runners": [here.get_state()] if here else self.on_runners("get_state"),
        }

    def _set_session_state(self, state: dict[str, Any]) -> None:
        self.num_env_steps, self.num_updates = state["num_env_steps"], state["num_updates"]
        self._returns = list(state["returns"])
        self._generator.set_state(torch.from_numpy(np.array(state["generator"])))
        for replay, columns in zip(self._replays, state["replays"], strict=True):
            replay.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in columns.items()})
        if self.runner is not None:
            self.runner.set_state(state["runners"][0])
        else:
            self.on_runners("set_state", [{"state": runner} for runner in state["runners"]])
        self.sync_weights()
