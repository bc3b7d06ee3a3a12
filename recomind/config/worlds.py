"""The world that a config names."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from recomind import plugins
from recomind.config.following import reward_weights
from recomind.config.schema import RecomindConfig
from recomind.errors import ConfigError, RecomindError, did_you_mean

if TYPE_CHECKING:
    from recomind.simulation import World


def make_world(config: RecomindConfig) -> World | None:
    """The world that `config.world` names, or None.

    Raises:
        ConfigError: a `_target_` outside the allowed prefixes, or one that is no environment.
    """
    if not config.world:
        return None
    arguments = dict(config.world)
    target = str(arguments.pop("_target_", ""))
    cls = _world_class(target, config.allowed_targets)
    known = inspect.signature(cls.__init__).parameters
    for name in arguments:
        if name not in known:
            raise ConfigError(
                "unknown setting of the world",
                got=name,
                mend=did_you_mean(name, [k for k in known if k != "self"]),
            )
    try:
        return cls(**arguments, reward_weights=dict(reward_weights(config)))
    except (RecomindError, OSError, MemoryError):
        raise
    except Exception as error:
        raise plugins.users_error(f"{target} cannot be made", error) from error


def _world_class(target: str, allowed: list[str]) -> type[World]:
    """The class that a dotted path names; checked on the resolved object, not on the string."""
    from recomind.simulation import World  # with torch, which a config can be read without

    found = plugins.resolve(target, setting="world._target_", also=allowed)
    if not (isinstance(found, type) and issubclass(found, World)):
        raise ConfigError(
            "world._target_ is no world",
            got=target,
            expected="a subclass of recomind.simulation.World",
        )
    return found
