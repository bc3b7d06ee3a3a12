"""From the group `data` of a config to a source of logs."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recomind import plugins
from recomind.data.config import WorldLogs
from recomind.data.sources.interface import LogSource
from recomind.errors import ConfigError, did_you_mean

_T = TypeVar("_T")
WORLD = "world"
SHIPPED = {  # short names; any other source is named by its dotted path
    "kuairand": "recomind.data.sources.kuairand.KuaiRand",
}


def reads_logs(data: Mapping[str, Any]) -> bool:
    """Whether `data` names raw logs; if not, a world's logs are collected."""
    return _source(data) != WORLD


def make_source(data: Mapping[str, Any], allowed: Sequence[str] = ()) -> LogSource:
    """The source that `data.source` names, made with the other settings of `data`.

    Args:
        data: `source` and its settings; `source` is a short name or a dotted path.
        allowed: packages below which a dotted path may lie, beside those of `plugins`.

    Raises:
        ConfigError: an unknown source or setting, a value of the wrong type or out of range.
    """
    name = _source(data)
    if name == WORLD:
        raise ConfigError(
            "prepare-data reads raw logs",
            got=f"data.source={WORLD}",
            mend="use data=table or data=kuairand, or collect-logs for a world",
        )
    if "." not in name and name not in SHIPPED:
        raise ConfigError(
            f"unknown data.source {name!r}: {did_you_mean(name, [*SHIPPED, WORLD])}",
            mend="a source of your own is named by its dotted path, such as my_shop.logs.Clicks",
        )
    found = plugins.resolve(SHIPPED.get(name, name), setting="data.source", also=allowed)
    if not isinstance(found, type) or not callable(getattr(found, "read", None)):
        raise _no_source(name)
    source = _made(found, _settings(data))
    if not isinstance(source, LogSource):
        raise _no_source(name)
    return source


def _no_source(name: str) -> ConfigError:
    return ConfigError(
        "data.source is no source of logs",
        got=name,
        expected="a class with the members of recomind.data.LogSource",
    )


def collected_logs(data: Mapping[str, Any]) -> WorldLogs:
    """The settings of `data` where a world's logs are collected."""
    return _made(WorldLogs, _settings(data))


def files_identity(paths: Sequence[Path]) -> str:
    """Sha256 over name, size and time of change of each file, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        stat = path.stat()
        digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _source(data: Mapping[str, Any]) -> str:
    return str(data.get("source") or data.get("_target_") or WORLD)


def _settings(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in data.items() if k not in ("source", "_target_")}


def _made(cls: type[_T], settings: dict[str, Any]) -> _T:
    known = list(inspect.signature(cls).parameters)
    for name in settings:
        if name not in known:
            raise ConfigError(f"unknown setting 'data.{name}': {did_you_mean(name, known)}")
    if not dataclasses.is_dataclass(cls):
        return cls(**settings)
    try:
        typed = OmegaConf.merge(OmegaConf.structured(cls), settings)
        if missing := sorted(OmegaConf.missing_keys(typed)):
            raise ConfigError(
                "settings without a value",
                got=[f"data.{key}" for key in missing],
                mend=f"give them, such as data.{missing[0]}=...",
            )
        return cast(_T, OmegaConf.to_object(typed))
    except OmegaConfBaseException as error:
        raise _refused(error) from error


def _refused(error: OmegaConfBaseException) -> ConfigError:
    key, parent = str(error.key), error.parent_node
    where = f"data.{error.full_key or key}"
    if parent is not None and "not in" in str(error):
        return ConfigError(f"unknown setting {where!r}: {did_you_mean(key, map(str, parent))}")
    return ConfigError(f"{where}: {str(error).splitlines()[0]}")
