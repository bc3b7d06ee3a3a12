"""A Ray that is up: the one that runs already, or a small local one for as long as needed."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from recomind.errors import ConfigError
from recomind.training.config import TrainingConfig

_OBJECT_STORE_BYTES = 512 * 1024**2
_RELEASE_S = 5.0


@contextmanager
def quiet_rllib() -> Iterator[None]:
    """Errors only: RLlib tells of its API stacks and of deprecations that are not the user's."""
    logger = logging.getLogger("ray.rllib")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def running_ray(config: TrainingConfig) -> Iterator[None]:
    """Yield with Ray up; only a Ray that was started here is shut down.

    Raises:
        ConfigError: more processes are asked for than there are CPUs. Ray itself would wait for
            them for ever, without a word.
    """
    needed = config.num_runners + config.num_learners
    if ray.is_initialized():
        _check_cpus(needed, _free_cpus(needed))
        yield
        return
    _check_cpus(needed, len(os.sched_getaffinity(0)))
    start_ray(needed)
    try:
        yield
    finally:
        ray.shutdown()


def _free_cpus(needed: int) -> int:
    """CPUs free for us; processes that just ended are given a moment to hand theirs back."""
    total = int(ray.cluster_resources().get("CPU", 0))
    deadline = time.monotonic() + _RELEASE_S
    while needed <= total:
        free = int(ray.available_resources().get("CPU", 0))
        if free >= needed or time.monotonic() > deadline:
            return free
        time.sleep(0.2)
    return total


def _check_cpus(needed: int, available: int) -> None:
    if needed > available:
        raise ConfigError(
            "training.num_runners + training.num_learners",
            got=needed,
            expected=f"<= {available}, the CPUs that are free",
            mend="ask for fewer processes; 0 and 0 run in the calling process",
        )


def start_ray(num_cpus: int, object_store_bytes: int = _OBJECT_STORE_BYTES) -> None:
    """A Ray of this machine alone: no dashboard, no chatter, a small object store."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(
            address="local",  # or a cluster that somebody else runs here would be joined
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=object_store_bytes,
        )
