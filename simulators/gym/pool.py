"""Sub-environments: created once, each running one session at a time, stepped by Gymnasium.

Symbols: `B` sessions, `M` sub-environments of a vector environment, `U` features, `H` tasks.

A session occupies a place of the pool. Vector environments step all their places at once, so a
place whose session is over, or that is not addressed, rests: its environment is not stepped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from torch import Tensor

from recomind.errors import ConfigError, RecomindError, SchemaError
from simulators.gym.actions import EnvMaker, ItemActions, failure, in_words
from simulators.gym.reading import Moment, Reading, begun

REST = -1  # the action of a place that is not addressed
_CHUNK = 256  # sub-environments in a vector environment


class ReadSession(gym.Env[dict[str, Any], np.int64]):
    """One environment behind a reading: observations are what the world needs.

    It never ends by itself; `left` and `cut` say that the session did.
    """

    def __init__(self, make: EnvMaker, reading: Reading, actions: ItemActions) -> None:
        self._env, self._reading, self._actions = make(), reading, actions
        num_features, num_tasks = len(reading.user_feature_names), len(reading.tasks)
        real = {"features": num_features, "feedback": num_tasks, "dwell_s": 1, "left": 1, "cut": 1}
        self.observation_space = spaces.Dict(
            {name: spaces.Box(-np.inf, np.inf, (size,), np.float32) for name, size in real.items()}
        )
        self.action_space = spaces.Discrete(actions.num_items + 1, start=REST)
        self.metadata = {"render_modes": []}
        self._last = {name: np.zeros(size, np.float32) for name, size in real.items()}
        self._seed, self._step, self._over = 0, 0, True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin the session of `seed`."""
        del options
        self._seed, self._step, self._over = seed or 0, 0, False
        self._last = {name: np.zeros_like(value) for name, value in self._last.items()}
        try:
            self._last["features"] = self._features(*begun(self._env.reset(seed=seed)))
        except (Exception, SystemExit) as error:
            return self._last, self._failed(error, "at its beginning")
        return self._last, {}

    def step(self, action: np.int64) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Show the item `action`."""
        if action == REST or self._over:
            return self._last, 0.0, False, False, {}
        try:
            reward = self._play(int(action))
        except (Exception, SystemExit) as error:
            failed = self._failed(error, f"at step {self._step} with item {int(action)}")
            return self._last, 0.0, False, False, failed
        return self._last, reward, False, False, {}

    def _failed(self, error: BaseException, when: str) -> dict[str, Any]:
        # As text: raised in another process, the error would end that process unseen.
        self._over = True
        said = str(error) if isinstance(error, RecomindError) else in_words(error)
        return {"failed": f"{said}, in the session of seed {self._seed} {when}"}

    def _play(self, item_id: int) -> float:
        """Show `item_id`, store its reading, and return the reward."""
        played = self._actions.action(item_id, self._seed, self._step)
        moment = Moment.of(self._env.step(played))
        self._step += 1
        self._last = self._read(moment)
        self._over = bool(self._last["left"][0] or self._last["cut"][0])
        return moment.reward

    def _read(self, moment: Moment) -> dict[str, Any]:
        left = bool(self._reading.left(moment))
        cut = (moment.terminated or moment.truncated) and not left
        seen = {
            "features": self._features(moment.observation, moment.info),
            "feedback": self._reading.feedback(moment),
            "dwell_s": [self._reading.dwell_s(moment)],
            "left": [left],
            "cut": [cut],
        }
        return {name: np.asarray(value, np.float32) for name, value in seen.items()}

    def _features(self, observation: Any, info: dict[str, Any]) -> NDArray[np.float32]:
        return np.asarray(self._reading.user_features(observation, info), np.float32)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


@dataclass(slots=True)
class Seen:
    """The readings of `B` sessions after a step, or at their beginning."""

    features: Tensor  # [B, U] float32
    feedback: Tensor  # [B, H] bool
    dwell_s: Tensor  # [B] float32
    left: Tensor  # [B] bool
    cut: Tensor  # [B] bool: the environment ended the session, the user did not
    reward: Tensor  # [B] float32, the environment's own reward


class SessionPool:
    """Places for sessions, as many as were ever needed at once.

    Args:
        make: creates a sub-environment.
        in_processes: run each in its own process, by AsyncVectorEnv.
        most: largest number of places.
        env_id: for errors.
    """

    def __init__(
        self, make: Callable[[], ReadSession], *, in_processes: bool, most: int, env_id: str
    ) -> None:
        self._make, self._in_processes, self._most = make, in_processes, most
        self._env_id = env_id
        self._envs: list[SyncVectorEnv | AsyncVectorEnv] = []
        self._free: list[int] = []
        self._size = 0

    def take(self, num: int) -> Tensor:
        """[num] int64 free places; new ones are created if there are too few."""
        self._grow(num - len(self._free))
        taken, self._free = self._free[:num], self._free[num:]
        return torch.tensor(taken, dtype=torch.int64)

    def release(self, place: Tensor | None = None) -> None:
        """Free `place` [B] (all where None)."""
        back = range(self._size) if place is None else [*self._free, *place.tolist()]
        self._free = sorted(set(back))

    def _grow(self, lacking: int) -> None:
        if self._size + max(0, lacking) > self._most:
            raise ConfigError(
                f"more sessions of {self._env_id} at once than world.max_envs",
                got=self._size + lacking,
                expected=f"<= {self._most}",
                mend="raise it, or lower collect.num_sessions and evaluation.batch_size",
            )
        while lacking > 0:
            num = min(lacking, _CHUNK)
            kind = AsyncVectorEnv if self._in_processes else SyncVectorEnv
            self._envs.append(kind([self._make] * num, autoreset_mode=AutoresetMode.DISABLED))
            self._free += range(self._size, self._size + num)
            self._size, lacking = self._size + num, lacking - num

    def begin(self, place: Tensor, seeds: Tensor) -> Seen:
        """Begin sessions with `seeds` [B] int64 at `place` [B]."""
        table, asked = self._table(place, seeds)
        parts = []
        for envs, seed, mask in zip(
            self._envs, self._split(table), self._split(asked), strict=True
        ):
            part = None
            if mask.any():
                part, infos = envs.reset(seed=seed.tolist(), options={"reset_mask": mask})
                self._check_infos(infos)
            parts.append(part)
        return self._gather(parts, place, np.zeros(len(place)))

    def step(self, place: Tensor, item_id: Tensor) -> Seen:
        """Show `item_id` [B] to the sessions at `place` [B]; all others rest."""
        table, asked = self._table(place, item_id)
        table[~asked] = REST
        parts, rewards = [], []
        for envs, actions in zip(self._envs, self._split(table), strict=True):
            part, reward = None, np.zeros(envs.num_envs)
            if (actions != REST).any():
                part, reward, _, _, infos = envs.step(actions)
                self._check_infos(infos)
            parts.append(part)
            rewards.append(reward)
        return self._gather(parts, place, np.concatenate(rewards)[place.numpy()])

    def _check_infos(self, infos: dict[str, Any]) -> None:
        if "failed" in infos:
            raise failure(self._env_id, next(text for text in infos["failed"] if text))

    def _table(self, place: Tensor, values: Tensor) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values by place, and which places have one."""
        table, asked = np.zeros(self._size, np.int64), np.zeros(self._size, np.bool_)
        table[place.numpy()], asked[place.numpy()] = values.numpy(), True
        return table, asked

    def _split(self, table: NDArray[Any]) -> list[NDArray[Any]]:
        ends = np.cumsum([envs.num_envs for envs in self._envs])
        return np.split(table, ends[:-1]) if self._envs else []

    def _gather(
        self, parts: Sequence[dict[str, Any] | None], place: Tensor, rewards_B: NDArray[Any]
    ) -> Seen:
        names = next(part for part in parts if part is not None)
        rows = {}
        for name, like in names.items():
            tables = [
                np.zeros((envs.num_envs, like.shape[1]), np.float32) if part is None else part[name]
                for envs, part in zip(self._envs, parts, strict=True)
            ]
            rows[name] = torch.from_numpy(np.concatenate(tables)[place.numpy()])
        seen = Seen(
            features=rows["features"],
            feedback=rows["feedback"] > 0.5,
            dwell_s=rows["dwell_s"][:, 0],
            left=rows["left"][:, 0] > 0.5,
            cut=rows["cut"][:, 0] > 0.5,
            reward=torch.from_numpy(rewards_B).float(),
        )
        self._check_numbers(seen, rows["feedback"])
        return seen

    def _check_numbers(self, seen: Seen, feedback: Tensor) -> None:
        read = {
            "the reward": seen.reward,
            "a user feature (from the observation)": seen.features,
            "the dwell time": seen.dwell_s,
            "the feedback": feedback,
        }
        for name, value in read.items():
            bad = (~torch.isfinite(value)).nonzero()
            if len(bad):
                raise SchemaError(
                    f"{name} of {self._env_id} is not a number",
                    got=f"{value[tuple(bad[0])].item()} in {len(bad[:, 0].unique())} "
                    f"of {len(value)} sessions",
                    expected="finite numbers",
                    mend="fix the environment or its reading; nothing of this step was logged",
                )
        if not bool(((feedback == 0) | (feedback == 1)).all()):
            raise SchemaError(
                f"the feedback of {self._env_id} is neither 0 nor 1",
                got=float(feedback.max()),
                expected="True or False for each task",
                mend="return what the user did; amounts belong in dwell_s()",
            )
        if bool((seen.dwell_s < 0).any()):
            raise SchemaError(
                f"the dwell time of {self._env_id} is negative",
                got=float(seen.dwell_s.min()),
                expected=">= 0",
            )

    def close(self) -> None:
        """Close all sub-environments; the pool is empty afterwards."""
        for envs in self._envs:
            envs.close()
        self._envs, self._free, self._size = [], [], 0
