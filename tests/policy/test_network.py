"""Q: what is frozen, what learns, what travels; and the support constraint."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recomind.errors import ArtifactError, ConfigError
from recomind.policy import PolicyConfig, QNetwork, own_part, support_mask
from recomind.ranker import SessionRanker
from recomind.streams import make_generator
from tests.simulation.tiny import (
    NUM_ITEMS,
    RANKER,
    WEIGHTS,
    tiny_dataset,
    tiny_ranker,
    tiny_world,
)


def network(**changes):
    return QNetwork(tiny_ranker(0), WEIGHTS, PolicyConfig(**changes))


def frozen(q_network) -> SessionRanker:
    own = own_part(q_network.frozen)
    assert own is not None
    assert own is q_network.frozen
    return own


def batch(num=30):
    dataset = tiny_dataset()
    state = dataset.state(dataset.rows("test")[:num])
    return state, torch.randint(NUM_ITEMS, (num, 8), generator=make_generator(0))


def learn(q_network, num_updates=3):
    """Move Q towards an arbitrary target."""
    state, item_id = batch()
    optimizer = torch.optim.AdamW([p for p in q_network.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(num_updates):
        q_network.train()
        loss = (q_network.q_values(state, item_id)[0] - item_id / NUM_ITEMS).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return q_network.eval()


def test_only_the_dense_residual_learns():
    q_network = network()
    before = {k: v.clone() for k, v in q_network.state_dict().items()}
    tables = [t for t in (frozen(q_network).table, q_network.trunk.table) if t is not None]
    copies = [t.vector.clone() for t in tables]
    learn(q_network)
    moved = {k for k, v in q_network.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert moved <= set(q_network.trainable_state())
    assert not any(k.startswith(("frozen", "trunk.items", "trunk.head")) for k in moved)
    assert {
        "residual.weight",
        "residual.bias",
        "trunk.hidden.weight",
        "trunk.item_part.weight",
        "trunk.state.0.weight",
        "trunk.events.linear.weight",
    } <= moved
    assert len(copies) == 2
    assert all(torch.equal(a.vector, b) for a, b in zip(tables, copies, strict=True))


def test_what_learns_does_not_grow_with_the_catalogue():
    assert not any(
        NUM_ITEMS in tensor.shape or RANKER.id_buckets in tensor.shape
        for tensor in network().trainable_state().values()
    )


def test_the_ranker_it_started_from_is_left_alone():
    ranker = copy.deepcopy(tiny_ranker(0))
    before = {k: v.clone() for k, v in ranker.state_dict().items()}
    learn(QNetwork(ranker, WEIGHTS, PolicyConfig()))
    assert all(torch.equal(v, before[k]) for k, v in ranker.state_dict().items())
    assert all(p.requires_grad for p in ranker.parameters())


def test_the_catalogue_and_what_was_computed_from_it_are_not_copied():
    ranker = tiny_ranker(0)
    q_network = QNetwork(ranker, WEIGHTS, PolicyConfig())
    assert ranker.table is not None
    for part in (frozen(q_network), q_network.trunk):
        assert part.catalogue is ranker.catalogue
        assert part.table is ranker.table
        assert part.hidden.weight is not ranker.hidden.weight


def test_training_mode_keeps_dropout_off():
    q_network, (state, item_id) = learn(network()), batch()
    with torch.no_grad():
        evaluated = q_network.q_values(state, item_id)[0]
        trained = q_network.train().q_values(state, item_id)[0]
    assert torch.equal(evaluated, trained)


def test_encoding_once_equals_scoring_at_once():
    q_network, (state, item_id) = learn(network()), batch()
    with torch.no_grad():
        q, utility = q_network.q_values(state, item_id)
        encoding = q_network.encode_state(state)
        parts = [q_network.score_encoded(encoding, chunk) for chunk in item_id.split(3, dim=1)]
    assert torch.allclose(torch.cat([part[0] for part in parts], 1), q, atol=1e-5)
    assert torch.allclose(torch.cat([part[1] for part in parts], 1), utility, atol=1e-5)


def test_the_trained_part_comes_back():
    learnt, fresh, (state, item_id) = learn(network()), network(), batch()
    fresh.load_trainable_state({k: v.clone() for k, v in learnt.trainable_state().items()})
    with torch.no_grad():
        assert torch.equal(fresh.q_values(state, item_id)[0], learnt.q_values(state, item_id)[0])
        assert not torch.equal(
            network().q_values(state, item_id)[0], learnt.q_values(state, item_id)[0]
        )


@pytest.mark.parametrize("change", ["missing", "shape", "extra"])
def test_weights_of_another_network_are_refused(change):
    tensors = network().trainable_state()
    match change:
        case "missing":
            del tensors["residual.bias"]
        case "shape":
            tensors["residual.bias"] = torch.zeros(2)
        case "extra":
            tensors["residual.other"] = torch.zeros(2)
    with pytest.raises(ArtifactError, match=r"policy weights do not fit this ranker.*residual"):
        network().load_trainable_state(tensors)


def test_without_bootstrap_q_knows_nothing_of_the_ranker():
    torch.manual_seed(0)
    q_network, (state, item_id) = network(bootstrap=False), batch()
    q, utility = q_network.q_values(state, item_id)
    assert not bool(q.any())
    assert bool(utility.any())  # the support constraint still has it
    assert not torch.equal(q_network.trunk.hidden.weight, frozen(q_network).hidden.weight)
    assert torch.equal(network().trunk.hidden.weight, frozen(q_network).hidden.weight)
    items = (part.items.state_dict() for part in (q_network.trunk, frozen(q_network)))
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in items), strict=True))


def test_the_residual_counts_in_units_of_reward():
    one, ten, (state, item_id) = network(), network(residual_scale=10.0), batch()
    for q_network in (one, ten):
        torch.nn.init.constant_(q_network.residual.bias, 0.25)
    with torch.no_grad():
        q_one, utility = one.q_values(state, item_id)
        q_ten, _ = ten.q_values(state, item_id)
    assert torch.allclose(q_one - utility, torch.full_like(utility, 0.25), atol=1e-6)
    assert torch.allclose(q_ten - utility, torch.full_like(utility, 2.5), atol=1e-5)


def test_sharing_a_catalogue_shares_one_table():
    q_network, (state, item_id) = network(), batch()
    with torch.no_grad():
        before = q_network.q_values(state, item_id)[1]
        q_network.share_items(tiny_world().catalogue)
        assert torch.allclose(q_network.q_values(state, item_id)[1], before, atol=1e-5)
    assert q_network.trunk.table is frozen(q_network).table


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"support_ratio": 1.1}, "policy.support_ratio"),
        ({"support_ratio": -0.1}, "policy.support_ratio"),
        ({"residual_scale": 0.0}, "policy.residual_scale"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        PolicyConfig(**changes)


# The support constraint.

utilities = st.lists(
    st.tuples(st.floats(-5, 5, width=32, allow_subnormal=False), st.booleans()),
    min_size=1,
    max_size=12,
)
ratios = st.floats(0.0, 1.0)


def tensors_of(pairs):
    utility = torch.tensor([[value for value, _ in pairs]])
    mask = torch.tensor([[flag for _, flag in pairs]])
    mask[0, 0] = True
    return utility, mask


@given(utilities, ratios)
@settings(max_examples=200, deadline=None)
def test_the_best_candidate_is_always_supported_and_padding_never(pairs, ratio):
    utility, mask = tensors_of(pairs)
    allowed = support_mask(utility, mask, ratio)
    assert not bool((allowed & ~mask).any())
    best = utility.masked_fill(~mask, -torch.inf).argmax(1)
    assert bool(allowed[0, best])


@given(utilities, ratios, ratios)
@settings(max_examples=200, deadline=None)
def test_a_larger_ratio_never_allows_more(pairs, one, two):
    utility, mask = tensors_of(pairs)
    loose, strict = (support_mask(utility, mask, r) for r in sorted((one, two)))
    assert bool((strict <= loose).all())


@given(utilities, ratios)
@settings(max_examples=200, deadline=None)
def test_it_is_what_the_definition_says(pairs, ratio):
    utility, mask = tensors_of(pairs)
    allowed = support_mask(utility, mask, ratio)[0].tolist()
    kept = [u for u, m in zip(utility[0].tolist(), mask[0].tolist(), strict=True) if m]
    for u, m, a in zip(utility[0].tolist(), mask[0].tolist(), allowed, strict=True):
        bound = max(kept) * ratio if max(kept) >= 0 else max(kept) / max(ratio, 1e-300)
        if not m or ratio == 0.0:
            assert a == m
        elif abs(u - bound) > 1e-5 * max(1.0, abs(bound)):  # away from rounding
            assert a == (u >= bound or u == max(kept))


def test_supported_by_hand():
    utility = torch.tensor([[1.0, 0.8, 0.79, 2.0], [-1.0, -1.2, -1.3, 5.0]])
    mask = torch.tensor([[True, True, True, False]] * 2)
    assert support_mask(utility, mask, 0.8).tolist() == [[True, True, False, False]] * 2
    assert support_mask(utility, mask, 1.0).tolist() == [[True, False, False, False]] * 2
    assert support_mask(utility, mask, 0.0).tolist() == mask.tolist()
