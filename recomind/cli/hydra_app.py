"""Hydra, driven without its own command line: composed once, and checked before it acts.

`hydra.main` reads `sys.argv` by itself, composes every config twice, and instantiates what
`hydra.callbacks` names before anyone can look. Its parts are internal to Hydra: they are those of
the minor version that `pyproject.toml` pins.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from recomind.cli.arguments import Arguments
from recomind.config import conf_dir, resolve
from recomind.errors import ConfigError
from recomind.plugins import allowed_prefixes

# What Hydra's own defaults name; `()` and `class` are the `_target_` of Python's logging config.
_HYDRAS_OWN = ("hydra._internal.core_plugins.", "hydra_plugins.", "logging.", "colorlog.")
_NAMES_CODE = ("_target_", "()", "class")


class CheckedHydra(Hydra):
    """Hydra that refuses a bad config before it writes, imports or logs anything."""

    def compose_config(self, *args: Any, **kwargs: Any) -> DictConfig:
        """Compose as Hydra does, and check: its own settings, and those of a single run.

        Raises:
            ConfigError: a `_target_` outside the allowed prefixes, or settings that no stage
                accepts.
        """
        logs = kwargs.pop("with_log_configuration", False)  # after the check: it runs factories
        config = super().compose_config(*args, **kwargs)
        refuse_foreign_targets(config)
        if kwargs["run_mode"] is RunMode.RUN:
            resolve(settings_of(config))
        if logs:
            configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        return config

    def settings(self, given: Arguments) -> DictConfig:
        """The settings of one run, not checked."""
        config = super().compose_config(
            config_name=given.config_name, overrides=given.overrides, run_mode=RunMode.RUN
        )
        return settings_of(config)

    @classmethod
    @contextmanager
    def opened(cls, stage: str, folders: Sequence[Path]) -> Iterator[Self]:
        """Hydra over the packaged presets, and over `folders` where those do not know a name."""
        version.setbase("1.3")
        search_path = create_config_search_path(str(conf_dir()))
        for folder in folders:
            search_path.prepend("command-line", f"file://{folder}", SearchPathQuery("schema"))
        GlobalHydra.instance().clear()
        try:
            yield cast(Self, cls.create_main_hydra2(stage, search_path))
        finally:
            GlobalHydra.instance().clear()


def settings_of(config: DictConfig) -> DictConfig:
    """The settings of ours in a composed config, which may still refer to Hydra's."""
    HydraConfig.instance().set_config(config)
    settings = copy.deepcopy(config)
    with read_write(settings), open_dict(settings):
        del settings["hydra"]
    return settings


def refuse_foreign_targets(config: DictConfig) -> None:
    """Raise ConfigError where Hydra's own settings name code outside the allowed prefixes."""
    prefixes = (*_HYDRAS_OWN, *allowed_prefixes(config.get("allowed_targets") or ()))
    settings = OmegaConf.to_container(config.hydra, resolve=False)
    for where, target in _targets(settings, "hydra"):
        if not target.startswith(prefixes):
            raise ConfigError(
                f"{where} is outside the allowed prefixes",
                got=target,
                expected=list(prefixes),
                mend="add your package to allowed_targets",
            )


def _targets(settings: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(settings, dict):
        for key, value in settings.items():
            if key in _NAMES_CODE:
                yield f"{where}.{key}", str(value)
            yield from _targets(value, f"{where}.{key}")
    elif isinstance(settings, list):
        for position, value in enumerate(settings):
            yield from _targets(value, f"{where}[{position}]")
