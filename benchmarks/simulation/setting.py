"""The default simulator over catalogues of several sizes, with random weights.

Symbols: `B` sessions, `N` items, `S` states that sessions begin from.
"""

from __future__ import annotations

import torch
from torch import nn

from recomind.data import TableCatalogue, materialise
from recomind.ranker import RankerConfig, SessionRanker
from recomind.simulation import LearnedSimulator, SimulatorConfig
from recomind.simulation.dwell import DwellModel
from recomind.simulation.response import Coupling, SummaryNet
from recomind.simulation.summary import SessionSummary
from recomind.streams import make_generator
from simulators.video_feed.world import TASKS, VideoFeed

NUM_STARTS = 2_000
HAZARD = 0.05  # a step: with the horizon of 40, sessions of 17 steps
COUPLINGS = [Coupling.shared, Coupling.shared, Coupling.with_view, Coupling.without_view]


def make_simulator(num_items: int, seed: int) -> LearnedSimulator:
    """Two members of the default configuration, with fatigue and hazards, minimum over both."""
    world, ranker_config, config = VideoFeed(num_items=num_items), RankerConfig(), SimulatorConfig()
    catalogue = materialise(world.catalogue, num_items)
    starts = world.reset(NUM_STARTS, make_generator(seed))
    num_features, num_dense = starts.user_features.shape[1], len(catalogue.dense_names)
    summary = SessionSummary(catalogue, config.item_categories)
    num_inputs = summary.size(len(TASKS), num_features)
    tiring = summary.size(len(TASKS), num_features, shown=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        members = range(ranker_config.num_members)
        rankers = [_ranker(catalogue, num_features, ranker_config) for _ in members]
        fatigue_nets = [_net(tiring, len(TASKS), config.hidden, 4.0) for _ in members]
        hazard_logit = float(torch.logit(torch.tensor(HAZARD)))
        hazards = [_net(num_inputs, 1, config.hidden, hazard_logit) for _ in members]
        dwell = DwellModel(num_dense, 2, config.dwell_quantiles, config.hidden)
    dwell.quantiles_CQ.copy_(torch.linspace(0.0, 5.0, config.dwell_quantiles).expand(4, -1))
    return LearnedSimulator(
        rankers,
        fatigue_nets,
        hazards,
        pessimism=config.pessimism,
        item_categories=config.item_categories,
        catalogue=catalogue,
        starts=starts,
        dwell=dwell.eval(),
        couplings=[int(coupling) for coupling in COUPLINGS],
        reward_weights=world_weights(),
        horizon=config.horizon,
    )


def world_weights() -> dict[str, float]:
    """What the reward is: videos watched for more than 10 s."""
    return {"watch_10s": 1.0}


def _ranker(catalogue: TableCatalogue, num_features: int, config: RankerConfig) -> SessionRanker:
    ranker = SessionRanker(catalogue, TASKS, num_features, config)
    for parameter in ranker.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.05)
    return ranker.requires_grad_(False).precompute_items()


def _net(num_inputs: int, num_outputs: int, hidden: int, bias: float) -> SummaryNet:
    net = SummaryNet(num_inputs, num_outputs, hidden, bias)
    last = net.net[-1]
    assert isinstance(last, nn.Linear)
    nn.init.normal_(last.weight, std=0.05)
    return net.requires_grad_(False).eval()
