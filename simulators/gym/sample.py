"""A random sample of sessions, and the reading that is fitted to it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np

from recomind.errors import ConfigError, SchemaError
from recomind.plugins import resolve
from simulators.gym.actions import Env, ItemActions
from simulators.gym.reading import Moment, RandomSample, Reading, begun

_SAMPLE_SESSIONS, _SAMPLE_STEPS = 64, 2000  # limits of the random sample


def take_sample(
    env: Env, actions: ItemActions, *, num_items: int, horizon: int, seed: int
) -> RandomSample:
    """Sessions of `env` with randomly drawn items: equal for equal seeds.

    Raises:
        SchemaError: a reward is not a number.
    """
    draws, sample = np.random.default_rng(seed), RandomSample()
    for session in range(_SAMPLE_SESSIONS):
        observation, info = begun(env.reset(seed=seed + session))
        # Copied: an environment may write its next observation into the same array.
        sample.first.append((deepcopy(observation), dict(info or {})))
        for step in range(horizon):
            item = int(draws.integers(num_items))
            moment = Moment.of(env.step(actions.action(item, seed + session, step)))
            moment.observation, moment.info = deepcopy(moment.observation), dict(moment.info or {})
            if not np.isfinite(moment.reward):
                raise SchemaError(
                    f"the reward of {env.spec.id if env.spec else env} is not a number",
                    got=moment.reward,
                    expected="finite numbers",
                )
            sample.shown.append(item)
            sample.moments.append(moment)
            if moment.terminated or moment.truncated:
                break
        if len(sample.moments) >= _SAMPLE_STEPS:
            break
    return sample


def make_reading(name: str, env: Env, sample: RandomSample) -> Reading:
    """The reading called `name`, fitted to `sample`.

    Raises:
        ConfigError: it does not exist, lacks something, or its values do not match its names.
    """
    cls: Callable[..., Any] = resolve(name, setting="world.reading")
    reading = cls(env, sample)
    if not isinstance(reading, Reading):
        needed = [n for n in dir(Reading) if not n.startswith("_")]
        lacking = [n for n in (*needed, *Reading.__annotations__) if not hasattr(reading, n)]
        raise ConfigError(
            "world.reading is not a reading",
            got=f"{name} lacks {sorted(set(lacking))}",
            mend="derive it from simulators.gym.reading.DefaultReading",
        )
    moment, (observation, info) = sample.moments[0], sample.first[0]
    widths = {
        "user_features()": (reading.user_features(observation, info), reading.user_feature_names),
        "feedback()": (reading.feedback(moment), reading.tasks),
    }
    for method, (values, names) in widths.items():
        if np.shape(values) != (len(names),):
            raise ConfigError(
                f"{name}.{method} returns another number of values than there are names",
                got=np.shape(values),
                expected=f"{len(names)} values, for {tuple(names)[:8]}",
            )
    return reading
