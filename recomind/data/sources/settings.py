"""Settings of sources: dictionaries out of YAML as checked dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recomind.errors import ConfigError, did_you_mean

_T = TypeVar("_T")


def typed(cls: type[_T], settings: Mapping[str, Any], prefix: str = "data") -> _T:
    """`cls` made from `settings`, whose names and types are checked.

    Raises:
        ConfigError: an unknown name, a value of the wrong type or none where one is needed.
    """
    known = list(inspect.signature(cls).parameters)
    for name in settings:
        if name not in known:
            raise ConfigError(f"unknown setting '{prefix}.{name}': {did_you_mean(name, known)}")
    if not dataclasses.is_dataclass(cls):
        return cls(**settings)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(cls), dict(settings))
        if missing := sorted(OmegaConf.missing_keys(merged)):
            raise ConfigError(
                "settings without a value",
                got=[f"{prefix}.{key}" for key in missing],
                mend=f"give them, such as {prefix}.{missing[0]}=...",
            )
        return cast(_T, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise _refused(error, prefix) from error


def _refused(error: OmegaConfBaseException, prefix: str) -> ConfigError:
    key, parent = str(error.key), error.parent_node
    where = f"{prefix}.{error.full_key or key}"
    if parent is not None and "not in" in str(error):
        return ConfigError(f"unknown setting {where!r}: {did_you_mean(key, map(str, parent))}")
    return ConfigError(f"{where}: {str(error).splitlines()[0]}")


def named(value: Any, setting: str) -> dict[str, Any]:
    """A list of names, or names with what they stand for, as the latter.

    >>> named(["age", {"size": "ln(bytes)"}], "data.items.numbers")
    {'age': 'age', 'size': 'ln(bytes)'}
    """
    if value is None:
        return {}
    if isinstance(value, str):
        return {value: value}
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    found: dict[str, Any] = {}
    for entry in value if isinstance(value, (list, tuple)) else [None]:
        if not isinstance(entry, (str, Mapping)):
            raise ConfigError(
                f"{setting} cannot be read", got=value, expected="names, or name: SQL expression"
            )
        more = {entry: entry} if isinstance(entry, str) else dict(entry)
        if twice := sorted(set(more) & set(found)):
            raise ConfigError(f"{setting} names {twice[0]!r} twice", got=value)
        found |= more
    return found
