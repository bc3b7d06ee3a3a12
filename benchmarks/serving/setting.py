"""A ranker of the default size over 10,000 items, a policy on it, and one request.

Symbols: `N` items, `K` candidates, `U` user features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.data import TableCatalogue
from recomind.export import PolicyScorer
from recomind.export.golden import random_states
from recomind.export.onnx.graph import STATE_INPUTS
from recomind.policy import PolicyConfig, QNetwork
from recomind.ranker import RankerConfig, SessionRanker
from recomind.streams import make_generator

NUM_ITEMS, NUM_USER_FEATURES, NUM_DENSE = 10_000, 16, 8
VOCAB_SIZES = (500, 60)  # author, tag
TASKS = ("watch_10s", "like", "hide")
WEIGHTS = {"watch_10s": 1.0, "like": 0.5}


def make_scorer(seed: int) -> PolicyScorer:
    """A policy that every part of has moved away from its ranker, at random."""
    generator = make_generator(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ranker = SessionRanker(_catalogue(generator), TASKS, NUM_USER_FEATURES, RankerConfig())
        network = QNetwork(ranker.precompute_items(), WEIGHTS, PolicyConfig())
        with torch.no_grad():
            network.residual.weight.normal_(std=0.1)
            for parameter in network.trunk.parameters():
                if parameter.requires_grad:
                    parameter += 0.01 * torch.randn_like(parameter)
    network.share_items(network.catalogue).eval().requires_grad_(False)
    return PolicyScorer(network, [f"user_{index}" for index in range(NUM_USER_FEATURES)])


def _catalogue(generator: torch.Generator) -> TableCatalogue:
    ids = [torch.randint(size, (NUM_ITEMS,), generator=generator) for size in VOCAB_SIZES]
    return TableCatalogue(
        torch.randn(1, NUM_ITEMS, NUM_DENSE, generator=generator),
        torch.stack(ids, dim=1),
        dense_names=[f"number_{index}" for index in range(NUM_DENSE)],
        categorical_names=("author", "tag"),
        vocab_sizes=VOCAB_SIZES,
    )


def request(scorer: PolicyScorer, num_candidates: int, seed: int) -> list[Tensor]:
    """One request with a full history, as the graphs' inputs in order."""
    generator = make_generator(seed)
    state = random_states(
        scorer.catalogue, TASKS, NUM_USER_FEATURES, scorer.history_length, 1, generator
    )
    state.history_mask[:] = True
    item_id = torch.randperm(NUM_ITEMS, generator=generator)[None, :num_candidates]
    mask = torch.ones_like(item_id, dtype=torch.bool)
    return [*(getattr(state, name) for name in STATE_INPUTS), item_id, mask]
