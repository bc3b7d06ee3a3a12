"""The scoring that graphs are traced from gives the network's own numbers."""

from __future__ import annotations

import pytest
import torch

from recomind.export.golden import random_states
from recomind.export.onnx.joint import FusedJoint, fused_scores, fused_utility
from recomind.streams import make_generator
from tests.export.tiny import LENGTH, NUM_ITEMS, NUM_USER, TASKS, network


def asked(trained, num_states: int = 40, num_candidates: int = 13):
    generator = make_generator(4)
    state = random_states(trained.catalogue, TASKS, NUM_USER, LENGTH, num_states, generator)
    state.history_mask[0] = False  # nobody has seen anything
    item_id = torch.randint(NUM_ITEMS, (num_states, num_candidates), generator=generator)
    return state, item_id


def with_tables(**changes):
    trained = network(**changes)
    return trained.share_items(trained.catalogue).eval().requires_grad_(False)


@pytest.mark.parametrize("effects", [False, True])
@pytest.mark.parametrize("size", [(40, 13), (1, 1), (3, 200)])
def test_scores_are_the_networks(effects, size):
    trained = with_tables(effects=effects)
    fused = fused_scores(trained)
    assert fused is not None
    state, item_id = asked(trained, *size)
    encoding = trained.encode_state(state)
    found = fused(encoding.frozen, encoding.trunk, item_id)
    for ours, plain in zip(found, trained.score_encoded(encoding, item_id), strict=True):
        torch.testing.assert_close(ours, plain, atol=2e-6, rtol=2e-6)


def test_a_ranker_alone_is_scored_likewise():
    trained = with_tables()
    ranker = trained.frozen
    state, item_id = asked(trained)
    encoding = ranker.encode_state(state)
    (joint,), wide = FusedJoint([ranker])([encoding], item_id)  # type: ignore[list-item]
    found = fused_utility(ranker, joint, wide, encoding, trained.weights_H)  # type: ignore[arg-type]
    plain = ranker.score(encoding, item_id).sigmoid() @ trained.weights_H
    torch.testing.assert_close(found, plain, atol=2e-6, rtol=2e-6)


def test_what_cannot_be_fused_is_scored_by_the_network():
    assert fused_scores(network()) is not None  # tables of one content
    assert fused_scores(with_tables(recent_length=LENGTH - 1)) is None  # old events are ranked
    assert fused_scores(with_tables(max_table_items=NUM_ITEMS - 1)) is None
    other = with_tables()
    other.trunk.table.vector[3] += 1.0  # type: ignore[union-attr]
    assert other.trunk.table is other.frozen.table  # type: ignore[union-attr]
    trunk = other.trunk.copied()
    trunk.table = None
    trunk.precompute_items()
    other.trunk = trunk  # pyright: ignore[reportAttributeAccessIssue]
    assert fused_scores(other) is None
