"""Waiting for answers of processes, some of which are late or dead."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from recomind.serving.shards.actor import Found


def collect(asked: dict[Any, int], found: dict[int, Found], until: float, *, at_once: int) -> bool:
    """Move answers that come before `until` from `asked` to `found`; False where none came.

    Waits until `at_once` questions are answered, or have failed.
    """
    if not asked:
        return False
    patience = max(0.0, until - time.monotonic())
    ready, _ = ray.wait(list(asked), num_returns=min(at_once, len(asked)), timeout=patience)
    for ref in ready:
        shard, answer = asked.pop(ref), result_of(ref)
        if answer is not None:
            found.setdefault(shard, answer)
    return bool(ready)


def result_of(ref: Any) -> Any:
    """The answer, or None where there is none yet or its process has died."""
    try:
        return ray.get(ref, timeout=0)
    except RayTaskError:  # an error of ours inside the process
        raise
    except (RayError, TimeoutError):
        return None
