"""What a decision and a learning step cost, in processor time.

Symbols: `B` sessions, `N` items, `K` candidates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.catalogue_scale.items import ItemSpace
from benchmarks.catalogue_scale.setting import (
    BATCH_SIZE,
    SEED,
    Nearest,
    make_network,
    make_pool,
    make_states,
    make_transitions,
)
from recomind.candidates import SubsetExploration
from recomind.policy import RunningQ, decide, support_mask
from recomind.retrieval import ItemIndex
from recomind.streams import SessionStreams, draw_seeds, make_generator
from recomind.training.dqn.loss import td_loss
from recomind.training.target import TargetCopy, trainable
from recomind.types import SessionState

NUM_BATCHES, NUM_ROUNDS, NUM_UPDATES, NUM_WARM_UP = 8, 5, 40, 8
EPSILON, SUBSET_SIZE = 0.3, 20


class Stopwatch:
    """Seconds of processor time by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """Do `work` and note what it took."""
        begin = time.process_time()
        result = work()
        self.seconds.setdefault(name, []).append(time.process_time() - begin)
        return result


@torch.no_grad()
def measure_decisions(index: ItemIndex) -> dict[str, Any]:
    """Seconds a batch of B decisions: of its parts, and in all."""
    network = make_network(index.num_items, 0)
    decider = Decider(index, RunningQ(network), network.config.support_ratio)
    states = make_states(index.num_items, NUM_BATCHES, SEED)
    for round_index in range(-1, NUM_ROUNDS):
        decider.stopwatch = Stopwatch() if round_index <= 0 else decider.stopwatch
        for batch, state in enumerate(states):
            decider.decide(state, SEED + 100 * round_index + batch)
    return {"seconds": decider.stopwatch.seconds}


class Decider:
    """Retrieval, pool, scoring and exploration, as a policy in production does them."""

    def __init__(self, index: ItemIndex, q: RunningQ, support_ratio: float) -> None:
        self.stopwatch, self._q, self._support_ratio = Stopwatch(), q, support_ratio
        self._nearest, self._in_retrieval = Nearest(index, ItemSpace()), 0.0
        self.num_items = index.num_items
        self._pool = make_pool(self.num_items, _Timed(self))
        self._uniform_pool = make_pool(self.num_items, None)
        self._exploration = SubsetExploration(EPSILON, SUBSET_SIZE)

    def nearest(self, state: SessionState, num: int) -> Tensor:
        """The index's answer, timed."""
        return self.stopwatch("retrieval", lambda: self._nearest.nearest(state, num))

    def decide(self, state: SessionState, seed: int) -> None:
        """B decisions; the parts are timed inside the whole."""
        streams = SessionStreams(draw_seeds(BATCH_SIZE, make_generator(seed)))
        self.stopwatch("decision", lambda: self._decide(state, streams))
        self.stopwatch("uniform_pool", lambda: self._uniform_pool.candidates(state, streams))

    def _decide(self, state: SessionState, streams: SessionStreams) -> None:
        watch = self.stopwatch
        pool = watch("pool", lambda: self._pool.candidates(state, streams))
        # States of other sessions at every call: nothing of the last one may be at hand.
        self._q.clear_cache()
        q_BK, utility_BK = watch("scoring", lambda: self._q.q_values(state, pool.item_id))
        uniforms_B4 = streams.uniform(state.step, 4, 2)

        def explore() -> None:
            allowed_BK = support_mask(utility_BK, pool.mask, self._support_ratio)
            decide(q_BK, allowed_BK, pool, uniforms_B4, self._exploration)

        watch("exploration", explore)


class _Timed(Nearest):
    """`Nearest` whose time is noted apart from the rest of the pool."""

    def __init__(self, decider: Decider) -> None:
        self._decider, self.num_items = decider, decider.num_items

    def nearest(self, state: SessionState, num: int) -> Tensor:
        return self._decider.nearest(state, num)


def measure_learning(num_items: int) -> dict[str, Any]:
    """Seconds of an update on B transitions, the best next item among `NUM_NEXT` candidates."""
    network = make_network(num_items, 0)
    target, parameters = TargetCopy(network), list(trainable(network).values())
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    batches, seconds = make_transitions(num_items, NUM_BATCHES, SEED + 10_000), []
    for update in range(-NUM_WARM_UP, NUM_UPDATES):
        begin = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss, _ = td_loss(
            network,
            target,
            batches[update % NUM_BATCHES],
            support_ratio=network.config.support_ratio,
        )
        loss.backward()
        optimizer.step()
        if update >= 0:
            seconds.append(time.process_time() - begin)
    return {"learn_seconds": seconds}
