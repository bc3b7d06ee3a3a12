"""Sampling with what is kept of running sessions, against encoding states and items anew.

Symbols: `B` sessions, `L` history events, `K` candidates.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from benchmarks.scoring.timing import alternate, milliseconds, ratio
from experiments.result import figure
from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.data import materialise
from recomind.policy import PolicyConfig, QNetwork, RunningQ
from recomind.ranker import RankerConfig, SessionRanker
from recomind.simulation import BatchedSessions
from recomind.streams import make_generator
from recomind.training.config import TrainingConfig
from recomind.training.problem import SessionProblem
from recomind.training.sampler import SessionSampler
from simulators.video_feed.world import TASKS, VideoFeed

LENGTH, NUM_ITEMS, NUM_CANDIDATES = 200, 100_000, 100
NUM_SESSIONS, NUM_WARM_EVENTS, NUM_RUNS, NUM_COMPARED = 64, 200, 11, 20
TOLERANCE = 1e-5  # of a Q, between keeping and encoding anew
WEIGHTS = {"watch_10s": 1.0}
SETTINGS = TrainingConfig(num_sessions=NUM_SESSIONS, support_ratio=0.6)


class EncodingAnew(SessionSampler):
    """Encodes every state and every candidate at every step."""

    def _acting(self) -> QNetwork:
        assert isinstance(self.network, QNetwork)
        return self.network


def make_world() -> BatchedSessions:
    """Sessions whose histories are full from the start."""
    return VideoFeed(num_items=NUM_ITEMS, history_length=LENGTH, warm_events=NUM_WARM_EVENTS)


def make_network(seed: int) -> QNetwork:
    """The default ranker with a history of L, its weights random, and a residual of its own."""
    world = make_world()
    config = RankerConfig(history_length=LENGTH, recent_length=LENGTH)
    num_features = world.reset(1, make_generator(seed)).user_features.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        catalogue = materialise(world.catalogue, NUM_ITEMS)
        ranker = SessionRanker(catalogue, TASKS, num_features, config)
        for parameter in ranker.parameters():
            if not parameter.detach().any():
                nn.init.normal_(parameter, std=0.05)
        network = QNetwork(ranker.precompute_items(), WEIGHTS, PolicyConfig()).eval()
        nn.init.normal_(network.residual.weight, std=0.05)
    return network


def without_tables(network: QNetwork) -> QNetwork:
    """The same network, which knows no item beforehand."""
    other = copy.deepcopy(network)
    for part in (other.frozen, other.trunk):
        assert isinstance(part, SessionRanker)
        part.table = None
    return other


def make_sampler(kind: type[SessionSampler], network: QNetwork, seed: int) -> SessionSampler:
    """Of the world's sessions; `network` acts."""
    config = CandidatesConfig(num_candidates=NUM_CANDIDATES, num_nearest=0, num_fresh=0)
    problem = SessionProblem(
        environment=make_world,
        candidates=lambda: CandidatePool(config, NUM_ITEMS),
        network=lambda: network,
    )
    return kind(problem, SETTINGS, seed=seed)


def rollout_of(sampler: SessionSampler, network: QNetwork) -> None:
    """One rollout of new weights, as between two rounds of updates."""
    network.load_trainable_state({k: t.clone() for k, t in network.trainable_state().items()})
    sampler.simulate()


def largest_difference(network: QNetwork, seed: int) -> float:
    """Of a Q or a utility, kept against anew, over sessions that run on."""
    running, world, generator = RunningQ(network), make_world(), make_generator(seed + 1)
    state, largest = world.reset(NUM_SESSIONS, make_generator(seed), auto_reset=True), 0.0
    for _ in range(NUM_COMPARED):
        shape = (NUM_SESSIONS, NUM_CANDIDATES)
        item_id = torch.randint(NUM_ITEMS, shape, generator=generator)
        pairs = zip(running.q_values(state, item_id), network.q_values(state, item_id), strict=True)
        largest = max(largest, *(float((ours - anew).abs().max()) for ours, anew in pairs))
        state = world.step(item_id[:, 0]).state
    return largest


@torch.no_grad()
def cache_figures(seed: int) -> dict[str, Any]:
    """Sampling throughput with what is kept over that of encoding anew."""
    network = make_network(seed)
    difference = largest_difference(network, seed)
    if not difference <= TOLERANCE:
        raise SystemExit(f"what is kept differs by {difference}, > {TOLERANCE}")
    anew = without_tables(network)
    samplers = {
        "kept": (make_sampler(SessionSampler, network, seed), network),
        "states_anew": (make_sampler(EncodingAnew, network, seed), network),
        "anew": (make_sampler(EncodingAnew, anew, seed), anew),
    }
    ways = {name: lambda one=one: rollout_of(*one) for name, one in samplers.items()}
    seconds = alternate(ways, num_runs=NUM_RUNS, num_warm_up=2)
    num_steps = NUM_SESSIONS * SETTINGS.rollout_length
    return {
        "cache_speedup_l200": ratio(seconds["anew"], seconds["kept"]),
        "cache_speedup_l200_items_known": ratio(seconds["states_anew"], seconds["kept"]),
        "cache_max_abs_difference_l200": figure(difference, unit="reward"),
        "ms_per_sampled_step_l200": milliseconds(seconds["kept"], num_steps),
    }
