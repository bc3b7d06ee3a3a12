"""A Ray that is up: one that runs already, here or elsewhere, or a small local one while needed."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from recomind.errors import ConfigError, RecomindError
from recomind.training.config import TrainingConfig

_OBJECT_STORE_BYTES = 512 * 1024**2
_RELEASE_S = 5.0
_START_ATTEMPTS = 3
_CONNECT_S = 5.0  # to a head's port; Ray itself asks for half a minute and then ends the process


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
    """Yield with Ray up; only a Ray that was started or joined here is left at the end.

    Raises:
        ConfigError: more processes are asked for than there are CPUs (Ray itself would wait for
            them for ever, without a word), no cluster answers at the address, or this process
            is connected to another one.
    """
    needed = config.num_runners + config.num_learners
    if ray.is_initialized():
        _refuse_another(config.ray_address)
        check_cpus(needed)
        yield
        return
    address = config.ray_address or os.environ.get("RAY_ADDRESS", "")
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
    """Refuse to ask the running Ray for more CPUs than are free.

    Args:
        needed: CPUs.
        patience_s: how long to wait for a node that takes the place of one that died.

    Raises:
        ConfigError: it has fewer.
    """
    deadline = time.monotonic() + patience_s
    while (free := _free_cpus(needed)) < needed and time.monotonic() < deadline:
        time.sleep(1.0)
    _refuse_above(needed, free)


def _join(address: str) -> None:
    _refuse_silent(address)
    try:
        _connect(address=address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_head(address, error) from error


def _connect(**settings: Any) -> None:
    """`ray.init` without a word."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
    _hide_token()


def _hide_token() -> None:
    """Ray writes the token that its processes show each other for everybody to read."""
    path = Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError):
        path.chmod(0o600)


def _refuse_another(address: str) -> None:
    """A process that is connected already stays where it is: that must be what was asked for."""
    if address in ("", "local", "auto"):
        return
    _refuse_silent(address)
    connected = ray.get_runtime_context().gcs_address
    if address != connected:
        raise ConfigError(
            "training.ray_address is of another cluster than this process is connected to",
            got=address,
            expected=connected,
            mend="call ray.shutdown() before, or leave the address out",
        )


def _refuse_silent(address: str) -> None:
    host, _, port = address.rpartition(":")
    if address == "auto":
        return  # Ray looks for the head of this machine itself, and says so where there is none
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
        mend="start one with `ray start --head`, or leave the address out to train here",
    )


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


def _refuse_above(needed: int, available: int) -> None:
    if needed > available:
        raise ConfigError(
            "training.num_runners + training.num_learners",
            got=needed,
            expected=f"<= {available}, the CPUs that are free",
            mend="ask for fewer processes; 0 and 0 run in the calling process",
        )


def start_ray(num_cpus: int, object_store_bytes: int = _OBJECT_STORE_BYTES) -> None:
    """A Ray of this machine alone: no dashboard, no chatter, a small object store.

    Raises:
        RecomindError: it does not come up.
    """
    for attempt in range(_START_ATTEMPTS):
        try:
            _connect(
                address="local",  # else it joins any head that runs on this machine
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=object_store_bytes,
            )
        except Exception as error:
            # Ray gives its own processes 30 s, too little on a machine that is busy.
            ray.shutdown()
            if "timed out during startup" not in str(error) or attempt + 1 == _START_ATTEMPTS:
                raise RecomindError(
                    "Ray does not start on this machine",
                    got=(str(error).splitlines() or [type(error).__name__])[0],
                    mend="see its log below /tmp/ray; try again when the machine is less busy",
                ) from error
        else:
            return
