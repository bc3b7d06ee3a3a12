"""Policies choose what they score best among what is allowed, with the propensity they log."""

from __future__ import annotations

import pytest
import torch

from recomind.candidates import SubsetExploration
from recomind.errors import RecomindError, SchemaError
from recomind.policy import (
    MixedExploration,
    PolicyConfig,
    QNetwork,
    QPolicy,
    RandomPolicy,
    RankerPolicy,
    support_mask,
)
from recomind.streams import make_generator
from recomind.types import Policy
from tests.simulation.tiny import WEIGHTS, tiny_pool, tiny_ranker, tiny_world

NUM = 400


@pytest.fixture(scope="module")
def scene():
    """States, their pools and uniforms."""
    world = tiny_world()
    state = world.reset(NUM, make_generator(0))
    pools = tiny_pool().candidates(state, world.streams)
    uniforms = torch.rand(NUM, 4, generator=make_generator(1)).clamp(1e-6, 1 - 1e-6)
    return state, pools, uniforms


def skewed_network(**changes):
    """A Q that differs much from the ranker's utility."""
    network = QNetwork(tiny_ranker(0), WEIGHTS, PolicyConfig(**changes))
    torch.nn.init.normal_(network.residual.weight, generator=make_generator(2))
    return network


EXPLORING = SubsetExploration(epsilon=0.5, subset_size=3)
MIXED = EXPLORING, SubsetExploration(epsilon=0.1, subset_size=1)
MAKE = {
    "ranker": lambda: RankerPolicy([tiny_ranker(0)], WEIGHTS),
    "rankers": lambda: RankerPolicy([tiny_ranker(0), tiny_ranker(1)], WEIGHTS, EXPLORING),
    "q": lambda: QPolicy(skewed_network(), EXPLORING),
    "random": RandomPolicy,
    "mixed": lambda: MixedExploration(RankerPolicy([tiny_ranker(0)], WEIGHTS), *MIXED),
}


@pytest.mark.parametrize("name", MAKE)
def test_every_policy_chooses_from_its_pool(name, scene):
    policy = MAKE[name]()
    state, pools, uniforms = scene
    decision = policy.act(state, pools, uniforms)
    assert isinstance(policy, Policy)
    slot = decision.slot[:, None]
    assert bool(pools.mask.gather(1, slot).all())
    assert torch.equal(pools.item_id.gather(1, slot)[:, 0], decision.item_id)
    assert bool((decision.log_propensity <= 0).all())
    some = torch.tensor([5, 301, 17])
    again = policy.act(state[some], pools[some], uniforms[some])
    assert torch.equal(again.item_id, decision.item_id[some])


def test_the_ranker_policy_maximises_the_mean_utility(scene):
    state, pools, uniforms = scene
    ensemble = RankerPolicy([tiny_ranker(0), tiny_ranker(1)], WEIGHTS)
    mean = sum(
        RankerPolicy([tiny_ranker(seed)], WEIGHTS).scores(state, pools.item_id) for seed in (0, 1)
    )
    assert isinstance(mean, torch.Tensor)
    best = (mean / 2).masked_fill(~pools.mask, -torch.inf).max(1).values
    decision = ensemble.act(state, pools, uniforms)
    chosen = (mean / 2).gather(1, decision.slot[:, None])[:, 0]
    assert torch.allclose(chosen, best)
    assert not bool(decision.log_propensity.any())


def test_the_q_policy_stays_inside_the_support(scene):
    state, pools, uniforms = scene
    network = skewed_network(support_ratio=0.99)
    with torch.no_grad():
        q, utility = network.q_values(state, pools.item_id)
    allowed = support_mask(utility, pools.mask, 0.99)
    slot = QPolicy(network).act(state, pools, uniforms).slot
    assert torch.equal(slot, q.masked_fill(~allowed, -torch.inf).argmax(1))
    free = QPolicy(skewed_network(support_ratio=0.0)).act(state, pools, uniforms).slot
    assert torch.equal(free, q.masked_fill(~pools.mask, -torch.inf).argmax(1))
    assert not bool(allowed.gather(1, free[:, None]).all())  # the constraint binds here
    exploring = QPolicy(network, SubsetExploration(epsilon=1.0, subset_size=1))
    assert bool(allowed.gather(1, exploring.act(state, pools, uniforms).slot[:, None]).all())


def test_the_random_policy_is_uniform_over_the_pool(scene):
    state, pools, uniforms = scene
    decision = RandomPolicy().act(state, pools, uniforms)
    expected = -pools.mask.sum(1).float().log()
    assert torch.allclose(decision.log_propensity, expected, atol=1e-5)
    assert len(decision.slot.unique()) == 24


def test_half_of_the_users_explore_more(scene):
    state, pools, uniforms = scene
    ranker = RankerPolicy([tiny_ranker(0)], WEIGHTS)
    more, less = (SubsetExploration(epsilon=e, subset_size=1) for e in (0.4, 0.1))
    mixed = MixedExploration(ranker, more, less).act(state, pools, uniforms)
    one, two = (
        RankerPolicy([tiny_ranker(0)], WEIGHTS, e).act(state, pools, uniforms) for e in (more, less)
    )
    is_one = mixed.log_propensity == one.log_propensity
    is_two = mixed.log_propensity == two.log_propensity
    assert bool((is_one | is_two).all())
    assert not bool((is_one & is_two).any())
    assert 0.4 < float(is_one.float().mean()) < 0.6
    assert torch.equal(mixed.slot, torch.where(is_one, one.slot, two.slot))


class Diverging:
    """A ranker whose second task is NaN in the second session."""

    def __init__(self, ranker):
        self.ranker, self.tasks, self.catalogue = ranker, ranker.tasks, ranker.catalogue

    def encode_state(self, state, snapshot=None):
        return self.ranker.encode_state(state, snapshot)

    def score(self, encoding, item_id, snapshot=None):
        logits = self.ranker.score(encoding, item_id, snapshot).clone()
        logits[1, :, 1] = torch.nan
        return logits


def test_a_ranker_that_diverged_chooses_nothing_and_is_named(scene):
    state, pools, uniforms = scene
    policy = RankerPolicy([tiny_ranker(0), Diverging(tiny_ranker(1))], WEIGHTS)
    with pytest.raises(RecomindError, match="nan for long_view at step 0 from member 1"):
        policy.act(state, pools, uniforms)
    pools = pools.clone()
    pools.mask[1] = False
    policy.scored(state, pools)  # what is not there may be anything


@pytest.mark.parametrize(
    ("part", "message"), [("residual", "nan at step 0 from its residual"), ("frozen", "the ranker")]
)
def test_a_policy_that_diverged_chooses_nothing(scene, part, message):
    network = skewed_network()
    layer = network.residual if part == "residual" else network.frozen.head  # pyright: ignore
    torch.nn.init.constant_(layer.bias, torch.nan)
    with pytest.raises(
        RecomindError, match=f"value of a candidate is not finite; got: .*{message}"
    ):
        QPolicy(network).act(*scene)


def test_rankers_of_different_tasks_make_no_policy():
    other = Diverging(tiny_ranker(1))
    other.tasks = ("watch_10s", "hide")
    with pytest.raises(SchemaError, match="rankers with different tasks"):
        RankerPolicy([tiny_ranker(0), other], WEIGHTS)
