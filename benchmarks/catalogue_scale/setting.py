"""States, pools and network of a decision over N items; nothing here grows with N.

Symbols: `B` sessions, `N` items, `K` candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.catalogue_scale.items import ItemSpace
from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.policy import PolicyConfig, QNetwork
from recomind.ranker import RankerConfig, SessionRanker
from recomind.retrieval import ItemIndex
from recomind.streams import make_generator
from recomind.types import SessionState, Transition
from simulators.video_feed.world import TASKS, VideoFeed

BATCH_SIZE, NUM_CANDIDATES, NUM_NEAREST = 256, 200, 100
NUM_NEXT = 64  # candidates of a next state that is learnt from, as in the defaults
REWARD_WEIGHTS, GAMMA = {"watch_10s": 1.0}, 0.9
SEED, NUM_STEPS = 0, 12  # steps that sessions have behind them


class Nearest:
    """The index, asked by the states' query vectors."""

    def __init__(self, index: ItemIndex, items: ItemSpace) -> None:
        self.index, self.items, self.num_items = index, items, index.num_items

    def nearest(self, state: SessionState, num: int) -> Tensor:
        """Item ids [B, num] int64, best first; -1 where there are fewer."""
        return self.index.search(self.items.queries(state), num)


def make_pool(
    num_items: int, nearest: Nearest | None, num_candidates: int = NUM_CANDIDATES
) -> CandidatePool:
    """Half nearest and half uniform; all uniform without an index."""
    config = CandidatesConfig(
        num_candidates=num_candidates, num_nearest=NUM_NEAREST if nearest else 0, num_fresh=0
    )
    return CandidatePool(config, num_items, nearest)


def make_network(num_items: int, max_table_items: int) -> QNetwork:
    """The default network with random weights, over items that are hashes of their ids."""
    world = VideoFeed(num_items=num_items)
    num_features = len(world.user_feature_names)
    config = RankerConfig(max_table_items=max_table_items)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        ranker = SessionRanker(world.catalogue, TASKS, num_features, config)
        return QNetwork(ranker.precompute_items(), REWARD_WEIGHTS, PolicyConfig())


def make_states(num_items: int, num: int, seed: int) -> list[SessionState]:
    """`num` batches [B] of states of sessions that have seen random items."""
    return [before for before, _ in _pairs(num_items, num, seed)]


def make_transitions(num_items: int, num: int, seed: int) -> list[Transition]:
    """`num` batches [B] of one step each, their next pools uniform draws."""
    pool, made = make_pool(num_items, None, NUM_NEXT), []
    for before, world in _pairs(num_items, num, seed):
        item_id = _random_items(num_items, seed)
        step = world.step(item_id)
        made.append(
            Transition(
                state=before,
                item_id=item_id,
                log_propensity=torch.zeros(BATCH_SIZE),
                reward=step.reward,
                discount=GAMMA * (~step.terminated).float(),
                next_state=step.state,
                next_candidates=pool.candidates(step.state, world.streams),
                batch_size=[BATCH_SIZE],
            )
        )
    return made


def _pairs(num_items: int, num: int, seed: int) -> list[tuple[SessionState, VideoFeed]]:
    """Batches of states, each with the world that holds its sessions."""
    pairs = []
    for batch in range(num):
        world = VideoFeed(num_items=num_items)
        state = world.reset(BATCH_SIZE, make_generator(seed + batch), auto_reset=True)
        for step in range(NUM_STEPS):
            state = world.step(_random_items(num_items, seed + 1_000 * batch + step)).state
        pairs.append((state, world))
    return pairs


def _random_items(num_items: int, seed: int) -> Tensor:
    return torch.randint(num_items, (BATCH_SIZE,), generator=make_generator(seed))
