"""A small Ray on this machine, for whoever needs one: training, serving, tests."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from recomind.errors import RecomindError

_OBJECT_STORE_BYTES = 512 * 1024**2
_START_ATTEMPTS = 3
_WAITING = 64  # tasks that wait or run at a time: their results lie in memory
_RETRIES = 8  # where a task's node or process dies


def start_ray(num_cpus: int, object_store_bytes: int = _OBJECT_STORE_BYTES) -> None:
    """Start a local Ray without dashboard and log output, with a small object store.

    Raises:
        RecomindError: it does not start.
    """
    for attempt in range(_START_ATTEMPTS):
        try:
            connect(
                address="local",  # otherwise it joins any head on this machine
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=object_store_bytes,
            )
        except Exception as error:
            # Ray gives its processes 30 s to start, too little on a busy machine.
            ray.shutdown()
            if "timed out during startup" not in str(error) or attempt + 1 == _START_ATTEMPTS:
                raise RecomindError(
                    "Ray does not start on this machine",
                    got=(str(error).splitlines() or [type(error).__name__])[0],
                    mend="see its log below /tmp/ray; try again when the machine is less busy",
                ) from error
        else:
            return


def connect(**settings: Any) -> None:
    """Call `ray.init` with these settings, quietly."""
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


class RayTasks:
    """Calls as Ray tasks, on whichever nodes the Ray that is running has; it starts a small one.

    A task whose node dies runs again elsewhere, so it must give the same each time.
    """

    at_once = True

    def map(
        self, function: Callable[..., Any], shared: Any, calls: Iterable[tuple[Any, ...]]
    ) -> Iterator[Any]:
        """What `function(shared, *call)` gives for each call, in their order."""
        if not ray.is_initialized():
            start_ray(num_cpus=os.cpu_count() or 1)
        remote: Any = ray.remote(max_retries=_RETRIES, num_cpus=1)(function)  # pyright: ignore
        everywhere = ray.put(shared)
        waiting: deque[ray.ObjectRef[Any]] = deque()
        for call in calls:
            waiting.append(remote.remote(everywhere, *call))
            if len(waiting) >= _WAITING:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(reference: ray.ObjectRef[Any]) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error  # as the function raised it
