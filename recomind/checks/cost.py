"""What scoring many candidates costs, against encoding the state for each of them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from recomind.checks.asking import answer, ask, encode
from recomind.checks.probes import Probe
from recomind.findings import Finding, Level, finding
from recomind.types import Ranker

_NUM_STATES, _NUM_CANDIDATES = 4, 100
_REPEATS = 3
_SPLIT = 1.5  # times faster from which the state counts as encoded once


def check_cost(ranker: Ranker, probe: Probe) -> Finding:
    """A note: how much is saved by encoding the state once. Times vary; nothing fails by them."""
    state = probe.state[:_NUM_STATES]
    num = len(state.step)
    width = probe.item_id.shape[1]
    item_id = probe.item_id[:num].repeat(1, -(-_NUM_CANDIDATES // width))[:, :_NUM_CANDIDATES]
    each = state[torch.arange(num).repeat_interleave(_NUM_CANDIDATES)]
    once_s = _seconds(lambda: answer(ranker, encode(ranker, state), item_id))
    repeated_s = _seconds(lambda: ask(ranker, each, item_id.reshape(-1, 1)))
    said = getattr(ranker, "cost", "")  # an adapter says in words what it does
    got = (
        f"{1e3 * once_s / num:.2g} ms a decision among {_NUM_CANDIDATES}, against "
        f"{1e3 * repeated_s / num:.2g} ms with the state encoded for each"
    )
    described = f" ({said})" if said else ""
    if repeated_s >= _SPLIT * once_s:
        return finding(Level.note, f"the state is encoded once for all candidates{described}", got)
    return finding(
        Level.note,
        f"each candidate costs about as much as encoding the state{described}",
        got,
        mend="if the model splits, let it encode the state once: docs/bring-your-own-ranker.md",
    )


def _seconds(run: Callable[[], object]) -> float:
    """The best of a few: what else runs on the machine only adds."""
    run()
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
