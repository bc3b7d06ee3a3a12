"""From the group `data` of a config to a source of logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recomind import plugins
from recomind.data.config import WorldLogs
from recomind.data.sources.interface import LogSource
from recomind.data.sources.settings import typed
from recomind.errors import ConfigError, did_you_mean

WORLD = "world"
SHIPPED = {  # short names; any other source is named by its dotted path
    "table": "recomind.data.sources.table.TableLogs",
    "kuairand": "recomind.data.sources.kuairand.KuaiRand",
    "recbole": "recomind.data.sources.recbole.RecBole",
    "movielens": "recomind.data.sources.public.MovieLens",
    "served": "recomind.data.sources.served.source.ServedLogs",
    "mind": "recomind.data.sources.public.Mind",
}


_COMMON = ("source", "_target_", "full_hash", "sample_events")  # not the source's own


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
    source = typed(found, _settings(data))
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
    return typed(WorldLogs, _settings(data))


def _source(data: Mapping[str, Any]) -> str:
    return str(data.get("source") or data.get("_target_") or WORLD)


def _settings(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in data.items() if k not in _COMMON}
