"""Gymnasium views of an environment: an action is a slot of the candidate pool.

    gym.make("recomind/Session-v0", environment=MyWorld, candidates=my_pool)
    gym.make_vec("recomind/Session-v0", num_envs=64, vectorization_mode="vector_entry_point",
                 environment=MyWorld, candidates=my_pool)

Symbols: `B` sessions, `K` candidates, `F` dense and `C` categorical item features, `M` summary
features. An observation is a dict:

    candidate_dense       [K, F] float32
    candidate_categorical [K, C] int64
    candidate_mask        [K] int8, 0 where the slot is padding
    state                 [M] float32, `recomind.simulation.summary.summarise`

A view owns its environment, so it takes factories and not objects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from recomind.errors import RecomindError, SchemaError
from recomind.simulation.summary import summarise
from recomind.streams import make_generator
from recomind.types import Candidates, CandidateSource, SessionEnvironment, SessionState, Step

Observation = dict[str, NDArray[Any]]


class _Sessions:
    """`B` running sessions with their pools, and their observations."""

    def __init__(
        self,
        environment: Callable[[], SessionEnvironment],
        candidates: Callable[[], CandidateSource],
    ) -> None:
        self.environment, self.source = environment(), candidates()
        self.pools = self.reset(1, seed=0, auto_reset=False)
        self.space = self._space()

    def reset(self, num: int, *, seed: int, auto_reset: bool) -> Candidates:
        generator = make_generator(seed)
        return self._see(self.environment.reset(num, generator, auto_reset=auto_reset))

    def _see(self, state: SessionState) -> Candidates:
        self.state = state
        self.pools = self.source.candidates(state, self.environment.streams)
        return self.pools

    def step(self, slot: Tensor) -> tuple[Step, Tensor]:
        """Show the items in `slot` [B]; also returns their ids [B]."""
        item_id, mask = self.pools.item_id, self.pools.mask
        if int(slot.min()) < 0 or int(slot.max()) >= item_id.shape[1]:
            raise SchemaError(
                "there is no such slot", got=slot.tolist(), expected=f"in [0, {item_id.shape[1]})"
            )
        # Discrete(K) cannot exclude padding: an action on padding selects the first real slot.
        slot = torch.where(mask.gather(1, slot[:, None])[:, 0], slot, mask.int().argmax(1))
        chosen = item_id.gather(1, slot[:, None])[:, 0]
        step = self.environment.step(chosen)
        self._see(step.state)
        return step, chosen

    def observation(self) -> Observation:
        """Arrays [B, ...]."""
        catalogue = self.environment.catalogue
        items = catalogue.features(self.pools.item_id)
        tensors = {
            "candidate_dense": items.dense,
            "candidate_categorical": items.categorical,
            "candidate_mask": self.pools.mask.to(torch.int8),
            "state": summarise(self.state, catalogue),
        }
        return {name: value.numpy().copy() for name, value in tensors.items()}

    def _space(self) -> spaces.Dict:
        example, sizes = self.observation(), self.environment.catalogue.vocab_sizes
        shapes = {name: value.shape[1:] for name, value in example.items()}
        most = np.broadcast_to(np.array(sizes, np.int64) - 1, shapes["candidate_categorical"])
        return spaces.Dict(
            {
                "candidate_dense": _real(shapes["candidate_dense"]),
                "candidate_categorical": spaces.Box(np.zeros_like(most), most, dtype=np.int64),
                "candidate_mask": spaces.MultiBinary(shapes["candidate_mask"][0]),
                "state": _real(shapes["state"]),
            }
        )

    @property
    def num_candidates(self) -> int:
        """`K`."""
        return self.pools.item_id.shape[1]

    def infos(self, step: Step, item_id: Tensor) -> dict[str, NDArray[Any]]:
        """What is known about the step beside its reward, [B, ...]."""
        response = step.response
        return {
            "item_id": item_id.numpy(),
            "feedback": response.feedback.numpy(),
            "dwell_s": response.dwell_s.numpy(),
        }


def _real(shape: tuple[int, ...]) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, np.float32)


class SessionVectorEnv(VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """`num_envs` sessions in lock-step, auto-reset at the step after an end.

    Args:
        environment: creates the environment.
        candidates: creates the source of its pools.
        num_envs: `B`.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        environment: Callable[[], SessionEnvironment],
        candidates: Callable[[], CandidateSource],
        num_envs: int = 1,
    ) -> None:
        self._sessions, self.num_envs = _Sessions(environment, candidates), num_envs
        self.single_observation_space = self._sessions.space
        self.single_action_space = spaces.Discrete(self._sessions.num_candidates)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Restart all sessions; without a seed, with the next ones of the last seed."""
        super().reset(seed=seed, options=options)
        drawn = int(self.np_random.integers(2**62))
        self._sessions.reset(self.num_envs, seed=drawn, auto_reset=True)
        return self._sessions.observation(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Show the items in the slots `actions` [B]; actions of ended sessions are ignored."""
        slot = torch.as_tensor(np.asarray(actions), dtype=torch.int64)
        step, item_id = self._sessions.step(slot)
        infos = self._sessions.infos(step, item_id)
        infos |= {
            f"_{name}": step.valid.numpy() for name in infos
        }  # Gymnasium's masks of who has it
        return (
            self._sessions.observation(),
            step.reward.double().numpy(),
            step.terminated.numpy(),
            step.truncated.numpy(),
            infos,
        )


class SessionEnv(gym.Env[Observation, np.int64]):
    """One session at a time.

    Args:
        environment: creates the environment.
        candidates: creates the source of its pools.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self,
        environment: Callable[[], SessionEnvironment],
        candidates: Callable[[], CandidateSource],
    ) -> None:
        self._sessions, self._running = _Sessions(environment, candidates), False
        self.observation_space = self._sessions.space
        self.action_space = spaces.Discrete(self._sessions.num_candidates)

    def _observation(self) -> Observation:
        return {name: value[0] for name, value in self._sessions.observation().items()}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start a session; without a seed, the next one of the last seed."""
        super().reset(seed=seed, options=options)
        drawn = int(self.np_random.integers(2**62))
        self._sessions.reset(1, seed=drawn, auto_reset=False)
        self._running = True
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Show the item in the slot `action`.

        Raises:
            RecomindError: the session has ended or was never started.
        """
        if not self._running:
            raise RecomindError("no session is running", mend="call reset() first")
        step, item_id = self._sessions.step(torch.tensor([int(action)]))
        terminated, truncated = bool(step.terminated), bool(step.truncated)
        self._running = not (terminated or truncated)
        infos = {name: value[0] for name, value in self._sessions.infos(step, item_id).items()}
        return self._observation(), float(step.reward), terminated, truncated, infos


if "recomind/Session-v0" not in gym.registry:
    gym.register(
        id="recomind/Session-v0",
        entry_point="recomind.simulation.gym_views:SessionEnv",
        vector_entry_point="recomind.simulation.gym_views:SessionVectorEnv",
    )
