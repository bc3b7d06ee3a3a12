"""What stands behind `recomind <stage>`: settings and flags, in any order."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from recomind.config import conf_dir
from recomind.errors import ConfigError, did_you_mean

CONFIG_NAME = "base"
_GROUPS = ("data", "experiment", "world")
_FREE_NAMES = "world.env_arguments"  # goes to gymnasium.make, whatever it takes


@dataclass(kw_only=True, slots=True)
class Arguments:
    """The arguments of one command."""

    overrides: list[str] = field(default_factory=list)  # key=value, as Hydra reads them
    multirun: bool = False  # a job for each combination of comma-separated values
    help: bool = False  # show the settings in place of running
    cfg: str = ""  # show this part of the config in place of running: job, hydra or all
    package: str = ""  # show only this group of the config
    resolve: bool = False  # show values in place of references
    config_name: str = CONFIG_NAME  # the primary config
    config_dirs: list[Path] = field(default_factory=list)  # searched after the packaged ones


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with a usage line."""
        raise ConfigError(f"unreadable arguments: {message}", mend="--help lists the flags")


def parser() -> argparse.ArgumentParser:
    """The flags of a stage."""
    flags = _Parser(add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    add = flags.add_argument
    add("-h", "--help", action="store_true", help="show settings and flags")
    add("-m", "--multirun", action="store_true", help="a job for each of the values in seed=0,1")
    add("-r", "--run", action="store_true", help="one job, as without a flag")
    add("-c", "--cfg", choices=("job", "hydra", "all"), help="check the config and print it")
    add("-p", "--package", default="", help="with --cfg: only this group, such as training")
    add("--resolve", action="store_true", help="with --cfg: values in place of references")
    add("-cn", "--config-name", default=CONFIG_NAME, help="another primary config")
    add("-cd", "--config-dir", action="append", default=[], help="a further folder of presets")
    add("overrides", nargs="*", help=argparse.SUPPRESS)
    return flags


def parse(arguments: Sequence[str]) -> Arguments:
    """Read the arguments of a stage.

    Raises:
        ConfigError: an unknown flag, flags that exclude each other, or a folder that is not there.
    """
    given, unknown = parser().parse_known_intermixed_args(list(arguments))
    for word in unknown:
        flags = [flag for action in parser()._actions for flag in action.option_strings]
        raise ConfigError(
            f"unknown flag {word.partition('=')[0]!r}",
            mend=f"{did_you_mean(word.partition('=')[0], flags)}; settings are key=value",
        )
    if given.multirun + given.run + (given.cfg is not None) > 1:
        raise ConfigError(
            "flags that exclude each other", got="--run, --multirun, --cfg", expected="one of them"
        )
    if not given.cfg and (given.resolve or given.package):
        raise ConfigError("--resolve and --package belong to --cfg", mend="add --cfg job")
    return Arguments(
        overrides=[_override(word) for word in given.overrides],
        multirun=given.multirun,
        help=given.help,
        cfg=given.cfg or "",
        package=given.package,
        resolve=given.resolve,
        config_name=given.config_name,
        config_dirs=_config_dirs(given.config_dir),
    )


def _config_dirs(given: Sequence[str]) -> list[Path]:
    """Folders to search beside the packaged one: those that are named, and `conf/` here."""
    for folder in map(Path, given):
        if not folder.is_dir():
            raise ConfigError("--config-dir is not a folder", got=folder)
    found = (folder.resolve() for folder in (*map(Path, given), Path("conf")) if folder.is_dir())
    return [folder for folder in dict.fromkeys(found) if folder != conf_dir()]


def _override(word: str) -> str:
    """The word as Hydra wants it; names in a setting whose names are free may be new."""
    name, equals, value = word.partition("=")
    if not equals and not word.startswith("~"):
        raise ConfigError(f"unreadable setting {word!r}", expected="key=value")
    if name in _GROUPS and value == "null":
        raise ConfigError(
            f"{name}=null is no choice",
            mend=f"leave {name}=... out, or take world=none for no world",
        )
    free = name == _FREE_NAMES or name.startswith(f"{_FREE_NAMES}.")
    return f"++{word}" if free else word
