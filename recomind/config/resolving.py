"""From YAML to dataclasses: `resolve` checks a composed config once, before any stage begins."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

import recomind
from recomind.aliases import take_old_names, with_old_names
from recomind.config.following import follow_logs
from recomind.config.schema import GROUPS, RecomindConfig
from recomind.config.variables import marked, variables
from recomind.errors import ConfigError, did_you_mean
from recomind.folders import register_folders

_SCHEMA = "recomind_schema"
_LARGEST_COUNT, _LARGEST_SEED = 2**31 - 1, 2**63 - 1


def conf_dir() -> Path:
    """The folder of YAML configs: inside the installed package, else beside the checkout's."""
    package = Path(recomind.__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if folder.is_dir():
            return folder
    raise ConfigError("the configuration folder is absent", got=package / "conf")


def register() -> None:
    """Register the schema and the resolvers of `conf/base.yaml` with Hydra; may be called again."""
    store = ConfigStore.instance()
    if f"{_SCHEMA}.yaml" not in store.repo:  # a tenth of a second, and the schema does not change
        store.store(name=_SCHEMA, node=with_old_names(RecomindConfig))
    register_folders()


def resolve(config: DictConfig) -> RecomindConfig:
    """The dataclasses behind a composed config, validated.

    Raises:
        ConfigError: a value that is missing or out of range.
    """
    take_old_names(config)
    _refuse_unknown(config, RecomindConfig)
    for group, schema in GROUPS.items():
        if config[group] is None:
            raise ConfigError(f"{group} is null", mend=f"leave {group}=... out for its defaults")
        _refuse_unknown(config[group], schema, f"{group}.")
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(
            "settings without a value", got=missing, mend=f"give them, such as {missing[0]}=..."
        )
    resolved = OmegaConf.to_object(config)
    if not isinstance(resolved, RecomindConfig):
        raise ConfigError("not a recomind config", got=type(resolved).__name__)
    follow_logs(resolved)
    _require_sizes(resolved)
    taken = variables(config)
    return marked(resolved, taken) if taken else resolved


def _require_sizes(config: Any, prefix: str = "") -> None:
    """Numbers that no array can be made of, and no generator seeded with, are refused by name."""
    for name in (f.name for f in dataclasses.fields(config)):
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            _require_sizes(value, f"{prefix}{name}.")
        bound = _LARGEST_SEED if name.endswith("seed") else _LARGEST_COUNT
        if isinstance(value, int) and not -bound <= value <= bound:
            raise ConfigError(f"{prefix}{name}", got=value, expected=f"at most {bound:,}")


def _refuse_unknown(config: DictConfig, schema: type, prefix: str = "") -> None:
    """Hydra lets `+name=...` through, and a dataclass without slots takes it without a word."""
    known = [f.name for f in dataclasses.fields(schema)]
    for name in map(str, config):
        if name not in known:
            raise ConfigError(f"unknown setting {prefix + name!r}: {did_you_mean(name, known)}")
