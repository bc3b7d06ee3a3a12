"""Runs a stage as a Hydra application, and turns what goes wrong into one line and a status."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import nullcontext

import hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from recomind.artifacts.disk import disk_full_error, is_disk_full
from recomind.config import conf_dir, register, resolve
from recomind.errors import ConfigError, RecomindError, did_you_mean
from recomind.plugins import allow

BAD_INPUT, INTERNAL_ERROR = 2, 1
_READ_ONLY = (
    "serve",
    "check-ranker",
    "check-world",
    "describe-data",
)  # others write into the run's folder
_FREE_NAMES = "world.env_arguments"  # goes to gymnasium.make, whatever it takes


def run_stage(stage: str, arguments: Sequence[str]) -> int:
    """Compose the stage's config from `arguments`, run it, and return the exit status."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here, instead of ending the process
    register()
    statuses: list[int] = []
    process = os.getpid()

    @hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=stage)
    def application(config: DictConfig) -> None:
        try:
            statuses.append(execute(stage, config))
        except RecomindError as error:
            if os.getpid() != process:  # a launcher's worker: its caller must hear of it
                raise
            statuses.append(_say(str(error)))  # the other jobs of a sweep go on

    sys.argv = [f"recomind {stage}", *map(_free, arguments)]
    try:
        _check_launcher(arguments)
        with warnings.catch_warnings():
            # conf/hydra/launcher/ray.yaml stands before the plugin's, and has to bear its name.
            warnings.filterwarnings("ignore", r"\s*'hydra/launcher/ray' is validated")
            application()
    except RecomindError as error:
        return _say(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        return _say(config_message(error))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        if is_disk_full(error):
            return _say(str(disk_full_error("where the command writes", error)))
        traceback.print_exc()
        return INTERNAL_ERROR
    return max(statuses, default=0)


def _free(argument: str) -> str:
    """Names in a setting whose names are free may be new: Hydra wants to be told so by `++`."""
    name = argument.partition("=")[0]
    free = name == _FREE_NAMES or name.startswith(f"{_FREE_NAMES}.")
    return f"++{argument}" if free else argument


def _check_launcher(arguments: Sequence[str]) -> None:
    if "hydra/launcher=ray" not in arguments:
        return
    plugins = importlib.util.find_spec("hydra_plugins")
    if plugins is None or importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None:
        raise ConfigError(
            "hydra/launcher=ray needs a plugin that is not installed",
            mend="pip install 'recomind[ray-launcher]', or leave it out: jobs then run in turn",
        )


def execute(stage: str, config: DictConfig) -> int:
    """Run one job; returns 0, or `exit_unreleased` where the gate stayed shut."""
    resolved = resolve(config)  # before torch is imported: what is refused is refused at once
    import torch

    from recomind.artifacts.locks import only_writer
    from recomind.cli.commands import perform
    from recomind.pipeline.run import Run

    allow(resolved.allowed_targets)  # by the environment, which workers inherit
    torch.set_num_threads(resolved.training.num_threads)
    logging.getLogger("ray").setLevel(logging.ERROR)  # in a launcher's worker it tells more
    run = Run(resolved)
    with nullcontext() if stage in _READ_ONLY else only_writer(run.folder):
        released = perform(stage, run.round(resolved.round))
    return 0 if released or _in_sweep() else resolved.exit_unreleased


def _in_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _say(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return BAD_INPUT


def config_message(error: BaseException) -> str:
    """One line for an error of Hydra or OmegaConf, with the closest known name."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"unknown {group or 'config'} {name!r}: {did_you_mean(name, error.options)}"
    if isinstance(error, OverrideParseException):
        return f"unreadable override {error.override!r}; expected: key=value"
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    root = chain[-1]
    key = getattr(root, "key", None) or getattr(error, "key", None)
    parent = getattr(root, "parent_node", None)
    text = " ".join(str(error).split("\n")[0].split())
    if key is not None and parent is not None and "not in" in str(root):
        known = [str(k) for k in (parent or {})]
        where = getattr(root, "full_key", key)
        return f"unknown setting {where!r}: {did_you_mean(str(key), known)}"
    full = getattr(root, "full_key", None)
    detail = str(root).split("\n")[0]
    if full and full not in detail:
        return f"{full}: {detail}"
    return text if detail in text else f"{text}: {detail}"
