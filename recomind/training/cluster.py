"""A running Ray: an existing cluster, here or elsewhere, or a small local one."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from recomind.errors import ConfigError
from recomind.local_ray import connect, start_ray
from recomind.training.config import TrainingConfig

_RELEASE_S = 5.0
_CONNECT_S = 5.0  # to a head's port; Ray itself asks for half a minute and then ends the process


@contextmanager
def quiet_rllib() -> Iterator[None]:
    """Silence warnings of RLlib and Ray about their API stacks and their own deprecations."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.rllib")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def without_object_store() -> Iterator[None]:
    """Let RLlib build an algorithm where no Ray is running.

    `EnvRunnerGroup` puts its configuration into Ray's object store even if no other process will
    fetch it; with everything in this process nothing else asks for a Ray. Starting one for that
    would cost several seconds and some eight processes.
    """
    if ray.is_initialized():
        yield
        return
    before = ray.put
    ray.put = lambda value: value  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        ray.put = before


@contextmanager
def running_ray(config: TrainingConfig) -> Iterator[None]:
    """Yield with the Ray that the training needs; a single process needs none.

    At the end, disconnect only if it was started or joined here.

    Raises:
        ConfigError: there are fewer CPUs than processes (Ray itself would wait for them silently,
            for ever), no cluster answers at the address, or this process is connected to
            another one.
    """
    needed = config.num_runners + config.num_learners
    _ = config.learner_device  # raises where it is not there
    if ray.is_initialized():
        _refuse_another(config.ray_address)
        check_cpus(needed)
        yield
        return
    address = config.ray_address or os.environ.get("RAY_ADDRESS", "")
    if needed == 0 and address in ("", "local"):
        yield
        return
    if address in ("", "local"):
        _refuse_above(needed, len(os.sched_getaffinity(0)))
        start_ray(needed)
    else:
        _join(address)
    try:
        check_cpus(needed)
        yield
    finally:
        ray.shutdown()


def check_cpus(needed: int, patience_s: float = 0.0) -> None:
    """Raise unless the running Ray has enough free CPUs.

    Args:
        needed: CPUs.
        patience_s: how long to wait for the replacement of a node that died.

    Raises:
        ConfigError: there are fewer.
    """
    deadline = time.monotonic() + patience_s
    while (free := _free_cpus(needed)) < needed and time.monotonic() < deadline:
        time.sleep(1.0)
    _refuse_above(needed, free)


def _join(address: str) -> None:
    _refuse_silent(address)
    try:
        connect(address=address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_head(address, error) from error


def _refuse_another(address: str) -> None:
    """Raise if this process is connected to a cluster other than `address`."""
    if address in ("", "local", "auto"):
        return
    _refuse_silent(address)
    connected = ray.get_runtime_context().gcs_address
    if address != connected:
        raise ConfigError(
            "this process is connected to a cluster other than training.ray_address",
            got=address,
            expected=connected,
            mend="call ray.shutdown() first, or omit the address",
        )


def _refuse_silent(address: str) -> None:
    host, _, port = address.rpartition(":")
    if address == "auto":
        return  # Ray itself looks for a head on this machine, and reports if there is none
    if not (host and port.isdecimal()) or "://" in address:
        raise ConfigError(
            "training.ray_address", got=address, expected="host:port of the cluster's head, or auto"
        )
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _no_head(address, error) from error


def _no_head(address: str, error: Exception) -> ConfigError:
    return ConfigError(
        "no Ray head answers at training.ray_address",
        got=f"{address}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        expected="host:port of a running head",
        mend="start one with `ray start --head`, or omit the address to train here",
    )


def _free_cpus(needed: int) -> int:
    """Free CPUs; processes that have just ended get a moment to release theirs."""
    total = int(ray.cluster_resources().get("CPU", 0))
    deadline = time.monotonic() + _RELEASE_S
    while needed <= total:
        free = int(ray.available_resources().get("CPU", 0))
        if free >= needed or time.monotonic() > deadline:
            return free
        time.sleep(0.2)
    return total


def _refuse_above(needed: int, available: int) -> None:
    if needed > available:
        raise ConfigError(
            "training.num_runners + training.num_learners",
            got=needed,
            expected=f"<= {available}, the CPUs that are free",
            mend="use fewer processes; 0 and 0 run in the calling process",
        )
