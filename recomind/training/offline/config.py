"""Settings of the algorithms that learn from logs."""

from __future__ import annotations

from dataclasses import dataclass

from recomind.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class OfflineConfig:
    """What `bc`, `cql` and `iql` have beyond `TrainingConfig`.

    Batch size, learning rate, discount, support ratio and averaging of the weights are those of
    `TrainingConfig`. `num_env_steps / env_steps_per_update` is the number of updates,
    so that an algorithm that learns from logs makes as many as one that simulates.
    """

    n_step: int = 1  # rewards summed before bootstrapping; more lean towards who logged
    temperature: float = 0.1  # softmax over Q, in rewards: bc's policy, cql's penalty
    conservatism: float = 0.3  # cql: weight of the penalty on what the logs do not show
    expectile: float = 0.8  # iql: above 0.5 its values lean towards the best of what was shown
    value_hidden: int = 64  # iql: units of the value head's hidden layer

    def __post_init__(self) -> None:
        self._check("temperature", self.temperature > 0.0, "> 0")
        self._check("conservatism", self.conservatism >= 0.0, ">= 0")
        self._check("expectile", 0.5 <= self.expectile < 1.0, "in [0.5, 1)")
        self._check("n_step", self.n_step >= 1, ">= 1")
        self._check("value_hidden", self.value_hidden >= 1, ">= 1")

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ConfigError(
                f"training.offline.{name}", got=getattr(self, name), expected=expected
            )
