"""Creates Gymnasium environments by id, and turns items into their actions."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from recomind.errors import ConfigError, RecomindError, did_you_mean
from recomind.plugins import VARIABLE, allowed_prefixes, users_error

Env = gym.Env[Any, Any]


@dataclass(kw_only=True, slots=True)
class EnvMaker:
    """Creates one environment, here or in another process."""

    env_id: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> Env:
        """A new environment.

        Raises:
            ConfigError: the id is unknown, its module is outside the allowed prefixes, or the
                environment does not take the arguments.
        """
        _check_module(self.env_id)
        try:
            # The world checks sessions itself, batch by batch, without Gymnasium's warnings.
            return gym.make(self.env_id, disable_env_checker=True, **self.arguments)
        except (gym.error.Error, ImportError) as error:
            raise ConfigError(
                "world.env_id is not a Gymnasium environment",
                got=f"{self.env_id!r}: {' '.join(str(error).split())}",
                expected="a registered id, or module:id where the module registers it",
                mend=_mend(self.env_id, error),
            ) from error
        except TypeError as error:
            raise ConfigError(
                "the environment does not take world.env_arguments",
                got=f"{self.arguments}: {error}",
            ) from error
        except RecomindError:
            raise
        except Exception as error:
            raise users_error(f"{self.env_id} cannot be made", error) from error


def _mend(env_id: str, error: Exception) -> str:
    if isinstance(error, ImportError):
        return "check the name; its package must be installed or on PYTHONPATH"
    hint = did_you_mean(env_id.rpartition(":")[2], map(str, gym.registry))
    return hint if hint.startswith("did") else "gymnasium.pprint_registry() lists them all"


def guarded(env_id: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of an environment or of its reading.

    Raises:
        RecomindError: it failed; an environment that others wrote counts as input.
    """
    try:
        return function(*args, **kwargs)
    except RecomindError:
        raise
    except (Exception, SystemExit) as error:
        raise failure(env_id, in_words(error)) from error


def in_words(error: BaseException) -> str:
    """What was raised and where, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def failure(env_id: str, got: str) -> RecomindError:
    """The error for an environment or a reading that raised `got`."""
    return RecomindError(f"{env_id} or its reading failed", got=got)


def _check_module(env_id: str) -> None:
    module, colon, _ = env_id.rpartition(":")
    if colon and not f"{module}.".startswith(prefixes := allowed_prefixes()):
        raise ConfigError(
            "world.env_id imports a module outside the allowed prefixes",
            got=env_id,
            expected=list(prefixes),
            mend=f"add your package to allowed_targets, or to the environment variable {VARIABLE}",
        )


@dataclass(kw_only=True, slots=True)
class ItemActions:
    """Turns an item into an action.

    A slate holds the item at position 0; the other positions hold other items, drawn uniformly
    and, if there are enough, without repetition. Those are not logged: the user's response is
    attributed to the item at position 0.
    """

    num_items: int  # N
    start: int = 0  # first action of a Discrete space: start .. start + N - 1
    slate_size: int = 0  # positions of a slate; 0 where the action is an item

    @classmethod
    def of(cls, space: spaces.Space[Any], env_id: str) -> ItemActions:
        """The actions of a space.

        Raises:
            ConfigError: an action is neither an item nor a slate of items.
        """
        if isinstance(space, spaces.Discrete):
            return cls(num_items=int(space.n), start=int(space.start))
        if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
            counts, starts = set(space.nvec.tolist()), set(space.start.tolist())
            if len(counts) == 1 and starts == {0}:
                return cls(num_items=counts.pop(), slate_size=len(space.nvec))
        old = type(space).__module__.partition(".")[0] == "gym"
        raise ConfigError(
            f"an action of {env_id} is not an item",
            got=f"{space}, from the old `gym` package" if old else space,
            expected="Discrete(N), or MultiDiscrete([N, N, ...]) for a slate of the same N items",
            mend="wrap the environment (gymnasium.ActionWrapper) so that an action is an item",
        )

    def action(self, item_id: int, seed: int, step: int) -> Any:
        """The environment's action for `item_id` at a step of the session `seed`.

        An int, or a slate as int64 array of shape `(slate_size,)`.
        """
        if self.slate_size == 0:
            return self.start + item_id
        others = np.random.default_rng([seed, step])
        order = others.permutation(self.num_items)
        rest = np.resize(order[order != item_id] if self.num_items > 1 else order, self.slate_size)
        return np.concatenate([[item_id], rest[: self.slate_size - 1]]).astype(np.int64)
