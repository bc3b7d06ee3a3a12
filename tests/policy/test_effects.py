"""A network that sees effects of items: nothing at step 0, learned, kept, none for new items."""

from __future__ import annotations

import pytest
import torch

from recomind.policy import PolicyConfig, QNetwork, RunningQ
from recomind.simulation import World
from recomind.streams import make_generator
from tests.policy.test_network import batch, learn
from tests.policy.test_running import LENGTH, NUM, NUM_CANDIDATES, items, largest_difference
from tests.simulation.tiny import NUM_ITEMS, WEIGHTS, tiny_ranker, tiny_world


def network(effects=None, **changes):
    if effects is None:
        effects = torch.randn(NUM_ITEMS, 2, generator=make_generator(3))
    return QNetwork(tiny_ranker(0), WEIGHTS, PolicyConfig(**changes), effects_NE=effects)


def test_at_step_0_it_ranks_exactly_as_the_ranker():
    state, item_id = batch()
    q, utility = network().q_values(state, item_id)
    assert torch.equal(q, utility)


def test_what_an_item_does_later_can_be_learned_that_its_vector_does_not_tell():
    """A target that is the effect alone, in an order of items that no content knows."""
    order = torch.randperm(NUM_ITEMS, generator=make_generator(4))
    effect_N1 = (order / NUM_ITEMS - 0.5)[:, None] * 12**0.5
    state, item_id = batch()
    losses = {}
    for name, effects in (("with", effect_N1), ("without", torch.zeros(NUM_ITEMS, 1))):
        q_network = network(effects)
        optimizer = torch.optim.Adam([p for p in q_network.parameters() if p.requires_grad], 1e-2)
        for step in range(60):
            item_id = torch.randint(NUM_ITEMS, (30, 8), generator=make_generator(step))
            q = q_network.q_values(state, item_id)[0]
            loss = (q - effect_N1[item_id, 0]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[name] = loss.item()
    assert losses["with"] < 0.5 * losses["without"]


def test_what_learns_is_the_gain_and_it_does_not_grow_with_the_catalogue():
    q_network = network()
    before = {k: v.clone() for k, v in q_network.state_dict().items()}
    learn(q_network)
    moved = {k for k, v in q_network.state_dict().items() if not torch.equal(v, before[k])}
    assert {"gain.weight", "gain.bias"} <= moved <= set(q_network.trainable_state())
    assert "effects_NE" in before
    shapes = [tuple(t.shape) for t in q_network.trainable_state().values()]
    assert not any(NUM_ITEMS in shape or NUM_ITEMS + 1 in shape for shape in shapes)


def test_the_trained_part_comes_back():
    learnt, fresh, (state, item_id) = learn(network()), network(), batch()
    fresh.load_trainable_state({k: v.clone() for k, v in learnt.trainable_state().items()})
    with torch.no_grad():
        q = learnt.q_values(state, item_id)[0]
        assert torch.equal(fresh.q_values(state, item_id)[0], q)
        learnt.gain.weight.zero_()
        learnt.gain.bias.zero_()
        assert not torch.allclose(learnt.q_values(state, item_id)[0], q, atol=1e-3)


@torch.no_grad()
def test_items_that_came_later_have_no_effect():
    with torch.enable_grad():
        q_network, (state, _) = learn(network()), batch()
    q_network.share_items(tiny_world(num_items=NUM_ITEMS + 50).catalogue)
    item_id = torch.arange(NUM_ITEMS - 4, NUM_ITEMS + 4).expand(len(state), -1)
    q = q_network.q_values(state, item_id)[0]
    q_network.gain.weight.zero_()
    q_network.gain.bias.zero_()
    plain = q_network.q_values(state, item_id)[0]
    assert torch.equal(q[:, 4:], plain[:, 4:])
    assert (q[:, :4] != plain[:, :4]).all()


@torch.no_grad()
@pytest.mark.parametrize("chunk_candidates", [0, 3])
def test_sessions_that_run_on_have_the_networks_values(chunk_candidates):
    with torch.enable_grad():
        q_network = learn(network(chunk_candidates=chunk_candidates))
    running = RunningQ(q_network)
    world: World = tiny_world(history_length=LENGTH)
    state = world.reset(NUM, make_generator(0), auto_reset=True)
    for step in range(30):
        item_id = items(step, NUM, NUM_CANDIDATES)
        ours = running.q_values(state, item_id)
        assert largest_difference(ours, q_network.q_values(state, item_id)) < 2e-4
        state = world.step(item_id[:, 0]).state
