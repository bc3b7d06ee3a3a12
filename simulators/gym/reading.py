"""How a Gymnasium environment is read as a session: the one class that you write.

`U` user features, `H` feedback tasks, `N` items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from recomind.data import TableCatalogue
from recomind.errors import ConfigError, SchemaError
from recomind.findings import Finding, Level, finding
from recomind.types import Catalogue

MAX_FEATURES = 512  # in a default reading; a wider observation is an image, not a user
_FIVE = "(observation, reward, terminated, truncated, info)"
_LARGEST = 10.0  # features are clipped at this many standard deviations


@dataclass(kw_only=True, slots=True)
class Moment:
    """What `env.step` returned."""

    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]

    @classmethod
    def of(cls, returned: Any) -> Moment:
        """From the returned tuple, whose numbers may have any type.

        Raises:
            SchemaError: there are not five values, or the reward is not a single number.
        """
        if not isinstance(returned, tuple) or len(returned) != 5:
            raise _not_gymnasium("step()", returned, _FIVE, "(..., done, info) is the old Gym")
        observation, reward, terminated, truncated, info = returned
        number = np.asarray(reward)
        if number.size != 1 or number.dtype.kind not in "biuf":
            raise SchemaError(
                "the reward is not a single number",
                got=repr(reward),
                expected="one float for each step",
                mend="fix the environment, or wrap it (gymnasium.RewardWrapper)",
            )
        return cls(
            observation=observation,
            reward=float(number.item()),
            terminated=bool(terminated),
            truncated=bool(truncated),
            info=info,
        )


def begun(returned: Any) -> tuple[Any, dict[str, Any]]:
    """Observation and info that `env.reset` returned.

    Raises:
        SchemaError: it returned something else.
    """
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise _not_gymnasium(
            "reset()", returned, "(observation, info)", "the old Gym had one value"
        )
    return returned


def _not_gymnasium(method: str, returned: Any, expected: str, hint: str) -> SchemaError:
    size = f" of {len(returned)}" if isinstance(returned, tuple) else ""
    return SchemaError(
        f"{method} does not follow Gymnasium's interface",
        got=f"{type(returned).__name__}{size}",
        expected=expected,
        mend=f"port it to the current interface; {hint}",
    )


@dataclass(kw_only=True, slots=True)
class RandomSample:
    """Sessions with randomly drawn items, to which readings are fitted."""

    moments: list[Moment] = field(default_factory=list)  # S steps
    shown: list[int] = field(default_factory=list)  # S, the items of those steps
    first: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)  # results of reset()


@runtime_checkable
class Reading(Protocol):
    """The meaning of an environment's observations, rewards and infos.

    It is created once, with the environment and a sample of random sessions, and then called for
    every session; a method that keeps state between calls would mix sessions up.
    """

    tasks: tuple[str, ...]  # H names of the feedback
    reward_weights: Mapping[str, float]  # task -> weight, if the config has none
    user_feature_names: tuple[str, ...]  # U names

    def catalogue(self, num_items: int) -> Catalogue:
        """The items, ids 0 .. num_items - 1."""
        ...

    def user_features(self, observation: Any, info: dict[str, Any]) -> Sequence[float]:
        """[U] roughly standardised numbers: what is known of the user before the next item."""
        ...

    def feedback(self, moment: Moment) -> Sequence[bool]:
        """[H]: what the user did with the item."""
        ...

    def dwell_s(self, moment: Moment) -> float:
        """Seconds that the user spent on the item."""
        ...

    def left(self, moment: Moment) -> bool:
        """Whether the user left; any other end of an episode truncates the session."""
        ...


class DefaultReading:
    """Reads any environment with numeric observations; subclass it to be more specific.

    - user features: the observation, flattened, standardised by the random sessions;
    - task `rewarded`: the reward is above `threshold`: the median of the random sessions' rewards
      if those differ and are all on one side of 0, otherwise 0;
    - dwell time: one second for each step, as it is unknown;
    - left: `terminated`;
    - items: an id without content.

    Args:
        env: one of the environments; it is not stepped.
        sample: random sessions in it.
    """

    tasks: tuple[str, ...] = ("rewarded",)
    reward_weights: Mapping[str, float] = {"rewarded": 1.0}
    seconds_per_step: ClassVar[float] = 1.0

    def __init__(self, env: gym.Env[Any, Any], sample: RandomSample) -> None:
        self._space = env.observation_space
        rows_SU = np.stack([self.numbers(o, i) for o, i in _seen(sample)])
        if not np.isfinite(rows_SU).all():
            raise SchemaError(
                "an observation is not a number",
                got=f"{rows_SU[~np.isfinite(rows_SU)][0]} in a session of random items",
                expected="finite numbers",
            )
        self._mean_U, spread_U = rows_SU.mean(0), rows_SU.std(0)
        self._spread_U = np.where(spread_U > 1e-6, spread_U, 1.0)
        self.user_feature_names = tuple(f"obs_{u}" for u in range(rows_SU.shape[1]))
        rewards_S = np.array([moment.reward for moment in sample.moments])
        low, high = rewards_S.min(), rewards_S.max()
        self.threshold = 0.0 if low <= 0.0 < high or low == high else float(np.median(rewards_S))

    def remarks(self, sample: RandomSample) -> list[Finding]:
        """Findings about the threshold, and what it loses if the reward is an amount."""
        if type(self).feedback is not DefaultReading.feedback:
            return []
        seen = sorted({moment.reward for moment in sample.moments})
        what = f"task {self.tasks[0]!r}: the reward is above {self.threshold:.6g}"
        got = f"{len(seen)} values from {seen[0]:.6g} to {seen[-1]:.6g} in random sessions"
        if len(seen) <= 2:
            return [finding(Level.note, what, got)]
        return [
            finding(
                Level.warning,
                f"{what}, and the amount is ignored",
                got,
                mend="for amounts, define a task for each of several thresholds in your reading; "
                "env_reward_per_session in the report is their sum",
            )
        ]

    def numbers(self, observation: Any, info: dict[str, Any]) -> NDArray[np.float64]:
        """[U] numbers before they are standardised: the observation, flattened."""
        del info
        space = self._space
        if not space.is_np_flattenable:
            raise _unreadable(f"a {type(space).__name__}")
        width = gym.spaces.flatdim(space)
        if width > MAX_FEATURES:
            raise _unreadable(f"{width} numbers")
        return np.asarray(gym.spaces.flatten(space, observation), np.float64)

    def catalogue(self, num_items: int) -> Catalogue:
        """Items without content: their id as a category, and one constant number."""
        return TableCatalogue(
            torch.zeros(1, num_items, 1),
            torch.arange(num_items)[:, None],
            dense_names=("constant",),
            categorical_names=("item",),
            vocab_sizes=(num_items,),
        )

    def user_features(self, observation: Any, info: dict[str, Any]) -> NDArray[np.float64]:
        """[U], standardised; NaN stays NaN, which the world refuses."""
        numbers_U = (self.numbers(observation, info) - self._mean_U) / self._spread_U
        return numbers_U.clip(-_LARGEST, _LARGEST)

    def feedback(self, moment: Moment) -> Sequence[bool]:
        """Whether the reward is above the threshold."""
        return [moment.reward > self.threshold]

    def dwell_s(self, moment: Moment) -> float:
        """One second."""
        del moment
        return self.seconds_per_step

    def left(self, moment: Moment) -> bool:
        """`terminated`."""
        return moment.terminated


def _seen(sample: RandomSample) -> list[tuple[Any, dict[str, Any]]]:
    return sample.first + [(m.observation, m.info) for m in sample.moments]


def _unreadable(got: str) -> ConfigError:
    return ConfigError(
        "the observation cannot be used as user features",
        got=got,
        expected=f"a space that flattens to at most {MAX_FEATURES} numbers",
        mend="write a reading with your own user_features() and name it in world.reading",
    )
