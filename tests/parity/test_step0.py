"""Before the first update the policy ranks exactly as the ranker it was made from."""

from __future__ import annotations

import pytest
import torch

from recomind.policy import PolicyConfig, QNetwork, QPolicy, RankerPolicy
from recomind.ranker import utility
from recomind.streams import make_generator
from recomind.types import Candidates, SessionState
from tests.simulation.tiny import LENGTH, NUM_ITEMS, WEIGHTS, tiny_ranker

NUM_STATES, NUM_CANDIDATES = 500, 64


def random_states() -> SessionState:
    """States of any history, step and user, most of which no log would hold."""
    generator = make_generator(0)

    def uniform(*shape):
        return torch.rand(NUM_STATES, *shape, generator=generator)

    length = (uniform() * (LENGTH + 1)).long()
    mask = torch.arange(LENGTH) >= LENGTH - length[:, None]
    return SessionState(
        user_id=torch.arange(NUM_STATES),
        user_features=4 * uniform(9) - 2,
        history_item_id=(uniform(LENGTH) * NUM_ITEMS).long() * mask,
        history_feedback=(uniform(LENGTH, 4) < 0.3) & mask[..., None],
        history_dwell_s=100 * uniform(LENGTH) * mask,
        history_gap_s=1000 * uniform(LENGTH) * mask,
        history_mask=mask,
        gap_s=1000 * uniform() * (length > 0),
        step=(uniform() * (length + 1)).long(),
        batch_size=[NUM_STATES],
    )


def random_candidates() -> Candidates:
    """64 distinct items for each state."""
    order = torch.rand(NUM_STATES, NUM_ITEMS, generator=make_generator(1)).argsort(1)
    return Candidates(
        item_id=order[:, :NUM_CANDIDATES],
        mask=torch.ones(NUM_STATES, NUM_CANDIDATES, dtype=torch.bool),
        log_propensity=torch.zeros(NUM_STATES, NUM_CANDIDATES),
        batch_size=[NUM_STATES],
    )


@pytest.fixture(scope="module")
def scores():
    """Q, its utility and the ranker's own utility, each [500, 64]."""
    ranker, state, item_id = tiny_ranker(0), random_states(), random_candidates().item_id
    network = QNetwork(ranker, WEIGHTS, PolicyConfig())
    with torch.no_grad():
        q, u = network.q_values(state, item_id)
        own = utility(ranker.score(ranker.encode_state(state), item_id), network.weights_H)
    return q, u, own


def test_q_is_the_utility_to_the_bit(scores):
    q, u, own = scores
    assert torch.equal(q, u)
    assert torch.equal(u, own)


def test_no_candidate_changes_its_rank(scores):
    q, _, own = scores
    ranks = [s.argsort(dim=1, descending=True, stable=True).argsort(dim=1) for s in (q, own)]
    assert int((ranks[0] - ranks[1]).abs().max()) == 0
    assert float(own.std(1).min()) > 1e-3  # the order is one of substance


@pytest.mark.parametrize("support_ratio", [0.0, 0.8, 1.0])
def test_both_choose_the_same_item(support_ratio):
    ranker, state, candidates = tiny_ranker(0), random_states(), random_candidates()
    network = QNetwork(ranker, WEIGHTS, PolicyConfig(support_ratio=support_ratio))
    uniforms = torch.rand(NUM_STATES, 4, generator=make_generator(2))
    one = QPolicy(network).act(state, candidates, uniforms)
    two = RankerPolicy([ranker], WEIGHTS).act(state, candidates, uniforms)
    assert torch.equal(one.item_id, two.item_id)


def test_a_residual_that_is_not_zero_breaks_parity(scores):
    q, _, own = scores
    ranker, state, item_id = tiny_ranker(0), random_states(), random_candidates().item_id
    network = QNetwork(ranker, WEIGHTS, PolicyConfig())
    torch.nn.init.normal_(network.residual.weight, std=0.1, generator=make_generator(3))
    with torch.no_grad():
        moved = network.q_values(state, item_id)[0]
    assert not torch.equal(moved, q)
    assert bool((moved.argmax(1) != own.argmax(1)).any())
