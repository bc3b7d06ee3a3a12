"""An environment whose readers look away from everything after too much of one topic.

A thousand items of twelve topics; readers like three of them. Once more than three of the last six
items were of one topic, the reader clicks on hardly anything for six items, whatever it is, and a
reader who does not click leaves three times as often. Nothing of recomind is imported here.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

NUM_ITEMS, NUM_TOPICS = 1000, 12
WINDOW, MOST, AWAY = 6, 3, 6  # items looked back at, of one topic at most, items looked away from
_CONTENT = np.random.default_rng(7)
TOPIC = _CONTENT.integers(0, NUM_TOPICS, NUM_ITEMS)
QUALITY = _CONTENT.normal(0, 0.6, NUM_ITEMS)  # not to be read from the content
LENGTH = _CONTENT.uniform(0.2, 1.0, NUM_ITEMS)  # minutes


class City(gym.Env[np.ndarray, int]):
    """One reader; what is observed is a noisy picture of the reader's taste."""

    def __init__(self) -> None:
        self.action_space = gym.spaces.Discrete(NUM_ITEMS)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (NUM_TOPICS,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new reader."""
        super().reset(seed=seed)
        random = self.np_random
        self._taste = random.normal(-1.6, 0.5, NUM_TOPICS)
        liked = random.choice(NUM_TOPICS, 3, replace=False)
        self._taste[liked] += random.uniform(1.0, 2.2, 3)
        self._seen = (self._taste + random.normal(0, 0.5, NUM_TOPICS)).astype(np.float32)
        self._recent, self._away = list[int](), 0
        return self._seen.copy(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Show an item."""
        random, topic = self.np_random, int(TOPIC[action])
        appeal = 1 / (1 + np.exp(-(self._taste[topic] + QUALITY[action])))
        clicked = bool(random.random() < (0.04 if self._away else appeal))
        left = bool(random.random() < (0.04 if clicked else 0.14))
        self._away = max(0, self._away - 1)
        self._recent = [*self._recent, topic][-WINDOW:]
        if self._recent.count(topic) > MOST:
            self._away, self._recent = AWAY, []
        seconds = 60 * LENGTH[action] if clicked else 3.0
        return self._seen.copy(), float(clicked), left, False, {"seconds": float(seconds)}


gym.register(id="City-v0", entry_point="experiments.rounds.city:City", max_episode_steps=100)
