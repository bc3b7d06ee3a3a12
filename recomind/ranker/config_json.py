"""Config dataclasses as JSON values, for manifests."""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from recomind.errors import ArtifactError

Config = TypeVar("Config")


def config_to_json(config: Any) -> Any:
    """A config dataclass as JSON values: nested ones as objects, enums as their values."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: config_to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, enum.Enum):
        return config.value
    if isinstance(config, (list, tuple)):
        return [config_to_json(value) for value in config]
    return dict(config) if isinstance(config, Mapping) else config


def config_from_json(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The config that `config_to_json` was given.

    Raises:
        ArtifactError: settings that this version does not have, or values that are none.
    """
    hints = typing.get_type_hints(kind)
    try:
        decoded = dict(values)
        for name, value in values.items():
            hint = hints.get(name)
            if isinstance(hint, type) and issubclass(hint, enum.Enum):
                decoded[name] = hint(value)
            elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
                decoded[name] = config_from_json(hint, value)
        return kind(**decoded)
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"unreadable {kind.__name__}",
            got=error,
            mend="write the artifact again with this version",
        ) from error
