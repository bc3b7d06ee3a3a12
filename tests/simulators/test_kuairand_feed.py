"""The world fitted to logs: it is the hold-out simulator, and logs can be collected in it."""

from __future__ import annotations

import torch

from recomind.artifacts import Manifest
from recomind.simulation import check_environment, fit_holdout
from recomind.streams import draw_seeds, make_generator
from simulators.kuairand.world import KuaiRandFeed
from tests.simulation.tiny import SIMULATOR, collect, tiny_dataset, tiny_pool


def test_a_fitted_feed_is_a_world_that_logs_can_be_collected_in(tmp_path):
    folder = tmp_path / "holdout"
    fit_holdout(folder, tiny_dataset(), SIMULATOR, Manifest(kind="holdout_simulator"), seed=0)
    world = KuaiRandFeed(folder=str(folder))
    check_environment(world)
    starts = world._fitted.starts
    starts.history_gap_s = 30.0 + starts.history_gap_s
    begun = world.reset_to(draw_seeds(20, make_generator(1))).history_gap_s
    assert begun[0].tolist() == [0.0, *[30.0] * (begun.shape[1] - 1)]
    assert bool((starts.history_gap_s == 30.0).all())
    starts.history_gap_s = starts.history_gap_s * starts.history_mask
    frame = collect(world, num_sessions=60)
    assert frame.filter(frame["position"] >= 0)["propensity"].is_between(0, 1).all()
    state = world.reset_to(draw_seeds(200, make_generator(1)))
    pools = tiny_pool().candidates(state, world.streams)
    uniforms = torch.full((200, 4), 0.99)  # above the exploration rate: greedy
    decision = world.logging_policy().act(state, pools, uniforms)
    best = world.catalogue.features(pools.item_id).dense[..., 0].masked_fill(~pools.mask, -9e9)
    assert torch.equal(decision.item_id, pools.item_id.gather(1, best.argmax(1, True))[:, 0])
