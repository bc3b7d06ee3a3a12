"""The same network without candidate subsets: every decision looks at all N items.

Symbols: `B` sessions, `N` items, `n` items of a chunk.

It has every advantage that fits into memory: item halves precomputed, states encoded once, scores
never kept but for the best.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.catalogue_scale.setting import SEED, make_network, make_states, make_transitions
from recomind.policy import QNetwork
from recomind.training.target import TargetCopy, trainable
from recomind.types import SessionState

NUM_STATES, CHUNK = 8, 8_192  # states that act at once, items scored at once
NUM_RUNS = 3
MAX_ITEMS = 20_000_000  # whose halves, 0.5 kB each, fit into memory while they are put together
LIMIT_S = 900.0  # a learning step that would take longer than this is not begun


def measure_full(num_items: int) -> dict[str, Any]:
    """Seconds of acting in `NUM_STATES` states, and of an update on 256 transitions."""
    if num_items > MAX_ITEMS:
        return {"reason": f"the item halves of {num_items:,} items do not fit into memory"}
    network = make_network(num_items, num_items)
    state = make_states(num_items, 1, SEED)[0][:NUM_STATES]
    seconds = [_timed_act(network, state) for _ in range(NUM_RUNS + 1)][1:]
    found = {"act_seconds": seconds, "num_states": NUM_STATES}
    expected_s = 32 * min(seconds)  # 256 states, in place of 8
    if expected_s > LIMIT_S:
        return found | {"learn_reason": f"a step would take about {expected_s:.0f} s"}
    return found | {"learn_seconds": [_timed_update(network, num_items)]}


def _timed_act(network: QNetwork, state: SessionState) -> float:
    begin = time.process_time()
    best_item(network, state)
    return time.process_time() - begin


@torch.no_grad()
def best_item(network: QNetwork, state: SessionState) -> Tensor:
    """The item [B] of largest Q among all."""
    encoding, num_items = network.encode_state(state), network.catalogue.num_items
    best_B = torch.full((len(state.step),), -torch.inf)
    item_B = torch.zeros(len(state.step), dtype=torch.int64)
    for item_n in torch.arange(num_items).split(CHUNK):
        q_Bn, _ = network.score_encoded(encoding, item_n.expand(len(item_B), -1))
        top_B, place_B = q_Bn.max(1)
        item_B = torch.where(top_B > best_B, item_n[place_B], item_B)
        best_B = best_B.maximum(top_B)
    return item_B


def _timed_update(network: QNetwork, num_items: int) -> float:
    """Double DQN with the maximum over the whole catalogue."""
    batch, target = make_transitions(num_items, 1, SEED)[0], TargetCopy(network)
    optimizer = torch.optim.Adam(list(trainable(network).values()), lr=1e-3)
    begin = time.process_time()
    parts = [best_item(network, part) for part in batch.next_state.split(NUM_STATES)]
    next_item_B1 = torch.cat(parts)[:, None]
    with torch.no_grad():
        value_B = target.q_values(batch.next_state, next_item_B1)[0][:, 0]
    q_B = network.q_values(batch.state, batch.item_id[:, None])[0][:, 0]
    torch.nn.functional.smooth_l1_loss(q_B, batch.reward + batch.discount * value_B).backward()
    optimizer.step()
    return time.process_time() - begin
