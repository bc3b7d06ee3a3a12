"""A small environment as others write them: it knows Gymnasium and nothing of this project.

Fifty items of five kinds. A user likes two kinds, is bored by a kind the more it is shown, and
leaves when bored of everything that is shown. `Slate-v0` shows three items and the user looks at
the first one.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np

NUM_ITEMS, NUM_KINDS = 50, 5


class Bored(gym.Env):
    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, start=0, limit=100):
        self.start, self.limit = start, limit
        self.action_space = gym.spaces.Discrete(NUM_ITEMS, start=start)
        self.observation_space = gym.spaces.Box(0.0, 10.0, (3,), np.float32)

    def _observation(self):
        return np.array([self.likes[0], self.likes[1], 5.0 * self.last], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.likes = self.np_random.choice(NUM_KINDS, 2, replace=False)
        self.boredom, self.patience = np.zeros(NUM_KINDS), 4.0
        self.last, self.steps = 0.0, 0
        return self._observation(), {"kind": -1}

    def step(self, action):
        kind = (int(action) - self.start) % NUM_KINDS
        appeal = (0.9 if kind in self.likes else 0.3) - 0.6 * self.boredom[kind]
        self.last = float(self.np_random.random() < appeal)
        self.boredom *= 0.8
        self.boredom[kind] += 0.5
        self.patience += 0.4 if self.last else -1.0
        self.steps += 1
        over = self.steps >= self.limit
        return self._observation(), self.last, self.patience <= 0, over, {"kind": kind}


class Slate(Bored):
    def __init__(self, positions=3):
        super().__init__()
        self.action_space = gym.spaces.MultiDiscrete([NUM_ITEMS] * positions)

    def step(self, action):
        assert self.action_space.contains(action), action
        assert len(set(action.tolist())) == len(action), action
        return super().step(action[0])


class Continuous(Bored):
    def __init__(self):
        super().__init__()
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)


class Endless(Bored):
    """Nobody ever leaves."""

    def step(self, action):
        observation, reward, *_ = super().step(action)
        return observation, reward, False, False, {}


class Broken(Bored):
    """Item 7 breaks `what`."""

    what = "nothing"

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if int(action) == 7:
            if self.what == "crash":
                raise ZeroDivisionError("by nothing")
            if self.what == "exit":
                raise SystemExit(3)
            observation = observation * np.nan if self.what == "observation" else observation
            reward = float("nan") if self.what == "reward" else reward
        return observation, reward, *rest


class Restless(Bored):
    """Draws from numpy's global generator."""

    def step(self, action):
        result = super().step(action)
        self.patience += np.random.normal()
        return result[0] + np.float32(np.random.random()), *result[1:]


class OldStep(Bored):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, info


class OldReset(Bored):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class Wordy(Bored):
    """Pays in words."""

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, "much", *rest


class Exits(Bored):
    def step(self, action):
        raise SystemExit(0)


class OneArray(Bored):
    """Writes every observation into the same array."""

    def _observation(self):
        self.array = getattr(self, "array", np.zeros(3, np.float32))
        self.array[:] = super()._observation()
        return self.array


class Seconds(Bored):
    """Pays by the second."""

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, 60.0 * reward + self.np_random.uniform(1.0, 9.0), *rest


class Bait(gym.Env):
    """Eighty items: what is liked is a matter of chance, and one in four drives users away."""

    def __init__(self):
        self.action_space = gym.spaces.Discrete(80)
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        bait = int(action) % 4 == 0
        reward = float(self.np_random.random() < (0.6 if bait else 0.5))
        left = bool(self.np_random.random() < (0.6 if bait else 0.05))
        return np.zeros(1, np.float32), reward, left, False, {}


class Picture(Bored):
    def __init__(self):
        super().__init__()
        self.observation_space = gym.spaces.Box(0, 255, (84, 84, 3), np.uint8)

    def _observation(self):
        return np.zeros((84, 84, 3), np.uint8)


for name in (
    *("Bored", "Slate", "Continuous", "Endless", "Broken", "Restless", "Picture", "OldStep"),
    *("OldReset", "Wordy", "Exits", "OneArray", "Seconds", "Bait"),
):
    if f"{name}-v0" not in gym.registry:
        gym.register(id=f"{name}-v0", entry_point=globals()[name])
