"""Runs a stage as a Hydra application, and turns what goes wrong into one line and a status."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext

from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from recomind.artifacts import disk_full_error, is_disk_full
from recomind.cli.arguments import Arguments, parse
from recomind.cli.hydra_app import CheckedHydra
from recomind.cli.messages import config_error
from recomind.config import make_world, register, resolve
from recomind.errors import ConfigError, RecomindError
from recomind.plugins import allow

BAD_INPUT, INTERNAL_ERROR = 2, 1
_READ_ONLY = ("serve", "check-ranker", "check-world", "describe-data")  # others write in the folder


def run_stage(stage: str, arguments: Sequence[str]) -> int:
    """Compose the stage's config from `arguments`, run it, and return the exit status."""
    register()
    try:
        given = parse(arguments)
        with warnings.catch_warnings(), CheckedHydra.opened(stage, given.config_dirs) as hydra:
            # conf/hydra/launcher/ray.yaml stands before the plugin's, and has to bear its name.
            warnings.filterwarnings("ignore", r"\s*'hydra/launcher/ray' is validated")
            return _answer(hydra, stage, given)
    except RecomindError as error:
        return _say(error)
    except (HydraException, OmegaConfBaseException) as error:
        return _say(config_error(error))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        if is_disk_full(error):
            return _say(disk_full_error("where the command writes", error))
        traceback.print_exc()
        return INTERNAL_ERROR


def _answer(hydra: CheckedHydra, stage: str, given: Arguments) -> int:
    if given.help:
        from recomind.cli.settings import settings_page

        print(settings_page(stage, hydra.settings(given)))
        return 0
    if given.cfg:
        make_world(resolve(hydra.settings(given)))  # the check that needs imports
        hydra.show_cfg(
            given.config_name, given.overrides, given.cfg, given.package or None, given.resolve
        )
        return 0
    task = _task(stage)
    mode = "MULTIRUN" if given.multirun or "hydra.mode=MULTIRUN" in given.overrides else "RUN"
    overrides = [*given.overrides, f"hydra.mode={mode}"]
    if mode == "RUN":
        return hydra.run(given.config_name, task, overrides).return_value
    _check_launcher(overrides)
    return sweep_status(hydra.multirun(given.config_name, task, overrides))


def _task(stage: str) -> Callable[[DictConfig], int]:
    """What Hydra calls for each job; returns its status."""
    process = os.getpid()

    def job(config: DictConfig) -> int:
        try:
            return execute(stage, config)
        except RecomindError as error:
            if os.getpid() != process:  # a launcher's worker: its caller must hear of it
                raise
            return _say(error)  # the other jobs of a sweep go on

    return job


def sweep_status(batches: Iterable[Iterable[JobReturn]]) -> int:
    """The status of a sweep: bad input of any job, else that of the job that came furthest.

    A sweep in which a policy was released ends with 0, and one in which every gate stayed shut
    with `exit_unreleased`.
    """
    statuses = [job.return_value for batch in batches for job in batch]
    return BAD_INPUT if BAD_INPUT in statuses else min(statuses, default=0)


def _check_launcher(overrides: Sequence[str]) -> None:
    if "hydra/launcher=ray" not in overrides:
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

    from recomind.artifacts import only_writer
    from recomind.cli.commands import perform
    from recomind.pipeline import Run

    allow(resolved.allowed_targets)  # by the environment, which workers inherit
    torch.set_num_threads(resolved.training.num_threads)
    logging.getLogger("ray").setLevel(logging.ERROR)  # in a launcher's worker it tells more
    run = Run(resolved)
    with nullcontext() if stage in _READ_ONLY else only_writer(run.folder):
        released = perform(stage, run.round(resolved.round))
    return 0 if released else resolved.exit_unreleased


def _say(error: RecomindError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return BAD_INPUT
