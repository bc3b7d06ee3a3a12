"""A network over forty items whose residual is far from zero."""

from __future__ import annotations

from typing import Any

import torch

from recomind.data import TableCatalogue
from recomind.export import ExportRecord
from recomind.policy import LoggedDensity, PolicyConfig, QNetwork
from recomind.ranker import RankerConfig, SessionRanker

NUM_ITEMS, NUM_USER, LENGTH = 40, 3, 6
TASKS = ("watch_10s", "like", "hide")
NAMES = ("age", "hour", "tenure")


def catalogue(num_items: int = NUM_ITEMS) -> TableCatalogue:
    generator = torch.Generator().manual_seed(1)
    return TableCatalogue(
        torch.randn(2, num_items, 2, generator=generator),
        torch.randint(5, (num_items, 1), generator=generator),
        dense_names=("age", "length"),
        categorical_names=("tag",),
        vocab_sizes=(5,),
    )


def network(policy: PolicyConfig | None = None, *, effects: bool = False, **changes) -> QNetwork:
    config = RankerConfig(dim=8, hidden=12, history_length=LENGTH, id_buckets=16, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        ranker = SessionRanker(catalogue(), TASKS, NUM_USER, config)
        with torch.no_grad():  # items must differ, or no constraint and no order would matter
            ranker.item_part.weight *= 20.0
            ranker.head.bias.fill_(-0.35)
            ranker.calibration.slope.fill_(10.0)
        policy = policy or PolicyConfig()
        network = QNetwork(
            ranker,
            {"watch_10s": 1.0, "like": 0.5},
            policy,
            density=_density(ranker, policy),
            effects_NE=torch.randn(NUM_ITEMS, 2) if effects else None,
        )
        with torch.no_grad():
            for parameter in network.trunk.parameters():
                if parameter.requires_grad:
                    parameter += 0.1 * torch.randn_like(parameter)
            network.residual.weight += torch.randn_like(network.residual.weight)
            if effects:
                network.gain.weight += torch.randn_like(network.gain.weight)
    return network


def _density(ranker: SessionRanker, policy: PolicyConfig) -> LoggedDensity | None:
    """One that nothing was fitted to, but which differs from item to item."""
    if policy.support_density == 0.0:
        return None
    density = LoggedDensity.of(ranker)
    density.standardise(torch.randn(64, density.state_width + density.item_width))
    with torch.no_grad():
        for tower in (density.query, density.key):
            for parameter in tower.parameters():
                parameter *= 3.0
    return density


def settings(**changes: Any) -> ExportRecord:
    """The record of an export."""
    given: dict[str, Any] = {
        "config": {"policy": {"support_ratio": 0.8}},
        "seed": 5,
        "released": False,
        "reasons": ["the interval of the lift contains zero"],
        "user_feature_names": list(NAMES),
        "inputs": {"round_0/policy": "abc"},
    }
    return ExportRecord(**(given | changes))
