"""What history says of a candidate: causal, whole where it is short, selective where it is long."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch

from recomind.data import TableCatalogue
from recomind.ranker import RankerConfig, SessionRanker, new_ranker
from recomind.ranker.attention import gated_sum
from recomind.ranker.history import (
    CausalTransformer,
    DecayPool,
    num_tallies,
    state_parts,
    tallies,
)
from recomind.streams import make_generator
from recomind.types import SessionState
from tests.simulation.tiny import (
    LENGTH,
    NUM_ITEMS,
    RANKER,
    tiny_catalogue,
    tiny_dataset,
    tiny_ranker,
)

B, T, D, H, MANY = 3, 9, 8, 4, 17_000
TASKS = ("watch_10s", "like", "share", "hide")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=make_generator(seed))


def transformer(num_layers=2, **changes):
    """Layers that are far from the identity."""
    torch.manual_seed(0)
    config = RankerConfig(dim=D, num_layers=num_layers, dropout=0.0, **changes)
    module = CausalTransformer(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return module.eval()


def ones(*shape):
    return torch.ones(shape, dtype=torch.bool)


@torch.no_grad()
@pytest.mark.parametrize("num_layers", [1, 3])
def test_changing_an_event_changes_it_and_later_ones_only(num_layers):
    module, events, mask = transformer(num_layers), normal(B, T, D), ones(B, T)
    before = module(events, mask)
    for changed in range(T):
        other = events.clone()
        other[:, changed] += normal(D, seed=7)  # a layer norm would take a mere shift away
        moved = (module(other, mask) - before).abs().amax(2) > 1e-6
        assert not bool(moved[:, :changed].any())
        assert bool(moved[:, changed:].all())


@torch.no_grad()
def test_left_padding_does_not_matter_whatever_stands_there():
    module, events = transformer(), normal(B, T, D)
    alone = module(events, ones(B, T))
    for num in (1, 5):
        padded = torch.cat([normal(B, num, D, seed=4), events], dim=1)
        mask = torch.cat([~ones(B, num), ones(B, T)], dim=1)
        out = module(padded, mask)
        assert torch.allclose(out[:, num:], alone, atol=1e-5)
        assert not bool(out[:, :num].any())


@torch.no_grad()
def test_distances_count_and_positions_do_not():
    """The last events alone, and after others that a mask hides, have the same context."""
    module, events = transformer(), normal(1, T, D)
    mask = ones(1, T)
    mask[:, 2] = False  # a hole: events 1 and 3 are two apart, not one
    holed = module(events, mask)
    closed = module(events[:, [0, 1, *range(3, T)]], ones(1, T - 1))
    assert not torch.allclose(holed[:, 3:], closed[:, 2:], atol=1e-3)
    twice = torch.cat([events, events], dim=1)
    hidden = torch.cat([~ones(1, T), ones(1, T)], dim=1)
    assert torch.allclose(module(twice, hidden)[:, T:], module(events, ones(1, T)), atol=1e-5)


@torch.no_grad()
def test_the_order_of_events_counts():
    module, events = transformer(), normal(B, T, D)
    order = [1, 0, *range(2, T)]
    assert not torch.allclose(
        module(events[:, order], ones(B, T))[:, -1], module(events, ones(B, T))[:, -1], atol=1e-3
    )


@torch.no_grad()
def test_attention_equals_a_loop():
    module, events = transformer(1), normal(B, T, D)
    mask = ones(B, T)
    mask[0, :4] = False
    layer: Any = module.layers[0]
    expected = torch.zeros(B, T, D)
    slopes, width = [2.0**-4, 2.0**-8], D // 2  # of two heads
    for b in range(B):
        q, k, v = layer.query_key_value(layer.norm_attention(events[b])).split(D, dim=1)
        for t in range(T):
            seen = [u for u in range(t + 1) if u == t or mask[b, u]]
            heads = []
            for n, slope in enumerate(slopes):
                own = slice(n * width, (n + 1) * width)
                logit = torch.stack(
                    [q[t, own] @ k[u, own] / width**0.5 - slope * (t - u) for u in seen]
                )
                heads.append(logit.softmax(0) @ v[seen][:, own])
            event = events[b, t] + layer.out(torch.cat(heads))
            expected[b, t] = event + layer.mixing(layer.norm_mixing(event))
    assert torch.allclose(module(events, mask), expected * mask[..., None], atol=1e-5)


@torch.no_grad()
def test_fresh_layers_change_nothing():
    dataset, catalogue = tiny_dataset(), tiny_catalogue()
    torch.manual_seed(0)
    config = RankerConfig(dim=D, hidden=16, num_layers=2)
    layered = SessionRanker(catalogue, TASKS, dataset.num_user_features, config).eval()
    plain = SessionRanker(
        catalogue, TASKS, dataset.num_user_features, replace(config, num_layers=0)
    ).eval()
    weights = {k: v for k, v in layered.state_dict().items() if not k.startswith("transformer.")}
    plain.load_state_dict(weights)
    state = dataset.state(dataset.rows("test")[:30])
    item_id = torch.randint(NUM_ITEMS, (30, 6), generator=make_generator(0))
    with_layers = layered.score(layered.encode_state(state), item_id)
    assert torch.equal(with_layers, plain.score(plain.encode_state(state), item_id))
    layer: Any = layered.transformer.layers[0]
    layer.out.bias += 1.0
    assert not torch.equal(with_layers, layered.score(layered.encode_state(state), item_id))


@cache
def many_items():
    """No two of them are alike, so that no two events are equally near."""
    dense, tag = normal(1, MANY, 2), torch.zeros(MANY, 1, dtype=torch.int64)
    return TableCatalogue(
        dense, tag, dense_names=("a", "b"), categorical_names=("tag",), vocab_sizes=(1,)
    )


def history(num_states=2, length=30, num_seen=None, seed=0):
    """States of a long history; the last `num_seen` events where given, else different numbers."""
    generator = make_generator(seed)
    mask = torch.arange(length, 0, -1) <= torch.tensor([num_seen or length, length // 2])[:, None]
    mask = mask[:num_states]
    shape = (num_states, length)
    return SessionState(
        user_id=torch.zeros(num_states, dtype=torch.int64),
        user_features=torch.randn(num_states, 3, generator=generator),
        history_item_id=torch.randperm(MANY, generator=generator)[:length] * mask,
        history_feedback=(torch.rand(*shape, H, generator=generator) < 0.4) & mask[..., None],
        history_dwell_s=20 * torch.rand(shape, generator=generator) * mask,
        history_gap_s=100 * torch.rand(shape, generator=generator) * mask,
        history_mask=mask,
        gap_s=torch.full((num_states,), 9.0),
        step=torch.full((num_states,), 4),
        batch_size=[num_states],
    )


def long_ranker(**changes):
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "dim": D,
        "hidden": 16,
        "id_buckets": 64,
        "recent_length": 6,
        "num_nearest": 4,
    }
    ranker = SessionRanker(many_items(), TASKS, 3, RankerConfig(**(settings | changes)))
    with torch.no_grad():  # gates that are neither shut nor open, and items that differ
        for name, weight in ranker.items.named_parameters():
            if "embedding_bags" in name:
                weight.normal_()
        ranker.recency.normal_()
        ranker.old_bias.fill_(-0.5)
        ranker.session_bias.fill_(0.3)
    return ranker.eval()


def seen_by_loop(ranker, encoding, unit_BKD):
    """Sum of values under gates over recent events and the nearest of the old ones."""
    config, seen_BKD = ranker.config, torch.zeros_like(unit_BKD)
    length = encoding.keys_BLD.shape[1]
    num_old = max(0, length - config.recent_length)
    for b in range(len(unit_BKD)):
        for k in range(unit_BKD.shape[1]):
            like = encoding.keys_BLD[b] @ unit_BKD[b, k] * ranker.log_sharpness.exp()
            logits = (like + encoding.bias_BL[b]).tolist()
            nearest = sorted(range(num_old), key=lambda i: -logits[i])[: config.num_nearest]
            for i in [*nearest, *range(num_old, length)]:
                gate = torch.tensor(logits[i]).sigmoid()
                seen_BKD[b, k] += gate * encoding.values_BLD[b, i]
    return seen_BKD


@torch.no_grad()
@pytest.mark.parametrize("num_nearest", [0, 1, 4])
def test_of_old_events_the_nearest_count(num_nearest):
    ranker, state = long_ranker(num_nearest=num_nearest), history()
    encoding = ranker.encode_state(state)
    unit = ranker.encode_items(torch.tensor([[5, 9, 7], [1, 2, 3]])).unit
    expected = seen_by_loop(ranker, encoding, unit)
    assert torch.allclose(ranker._seen(encoding, unit), expected, atol=1e-5)
    other = copy.deepcopy(ranker)
    other.config = replace(ranker.config, num_nearest=num_nearest + 3)
    assert not torch.allclose(other._seen(encoding, unit), expected, atol=1e-4)


def gated(ranker, encoding, unit, first=0):
    """What the events from `first` on are to the candidates."""
    keys, values = encoding.keys_BLD[:, first:], encoding.values_BLD[:, first:]
    bias, sharpness = encoding.bias_BL[:, first:], ranker.log_sharpness.exp()
    return gated_sum(unit, keys, values, bias, sharpness)


@torch.no_grad()
@pytest.mark.parametrize("num_nearest", [24, 1_000])
def test_with_all_old_events_near_the_whole_gate_is_open(num_nearest):
    ranker, state = long_ranker(num_nearest=num_nearest), history()
    encoding = ranker.encode_state(state)
    unit = ranker.encode_items(torch.arange(10).view(2, 5)).unit
    whole = gated(ranker, encoding, unit)
    assert torch.allclose(ranker._seen(encoding, unit), whole, atol=1e-5)


@torch.no_grad()
def test_the_bias_of_the_gate_by_hand():
    ranker, state = long_ranker(), history()
    bias_BL = ranker._bias(state.in_session, state.history_mask)
    in_session = [0.3 if age <= 4 else 0.0 for age in range(30, 0, -1)]
    recency = [-0.5] * 24 + ranker.recency.tolist()
    assert bias_BL[0].tolist() == pytest.approx(
        [a + b for a, b in zip(recency, in_session, strict=True)]
    )
    assert bias_BL[1, :15].tolist() == [-torch.inf] * 15
    assert bias_BL[1, 15:].tolist() == bias_BL[0, 15:].tolist()


@torch.no_grad()
def test_a_long_history():
    """16,384 events are encoded and scored; of the old ones few count for a candidate."""
    length = 16_384
    ranker, state = long_ranker(history_length=length, recent_length=64), history(length=length)
    item_id = torch.tensor([[5, 9, 7], [1, 2, 3]])
    encoding = ranker.encode_state(state)
    unit = ranker.encode_items(item_id).unit
    logits = ranker.score(encoding, item_id)
    assert bool(logits.isfinite().all())
    like_BKO = unit @ encoding.keys_BLD[:, :-64].mT * ranker.log_sharpness.exp()
    like_BKO += encoding.bias_BL[:, None, :-64]
    kept = torch.zeros_like(like_BKO, dtype=torch.bool)
    kept.scatter_(2, like_BKO.argsort(dim=2, descending=True)[..., :4], True)
    old = (like_BKO.sigmoid() * kept) @ encoding.values_BLD[:, :-64]
    recent = gated(ranker, encoding, unit, first=length - 64)
    assert torch.allclose(ranker._seen(encoding, unit), old + recent, atol=1e-4)
    assert int(kept.sum()) == 2 * 3 * 4


def test_a_long_history_is_trained_on():
    ranker = long_ranker(history_length=2_048).train()
    encoding = ranker.encode_state(history(length=2_048))
    ranker.score(encoding, torch.tensor([[5, 9], [1, 2]])).sum().backward()
    gradients = {n: p.grad for n, p in ranker.named_parameters() if p.grad is not None}
    assert {"old_bias", "recency", "gate.weight", "log_sharpness"} <= gradients.keys()
    assert all(
        bool(g.coalesce().values().isfinite().all()) if g.is_sparse else bool(g.isfinite().all())
        for g in gradients.values()
    )
    assert float(gradients["old_bias"].abs()) > 0


def test_a_state_is_encoded_once_for_all_candidates():
    dataset = tiny_dataset()
    ranker, state = (
        new_ranker(dataset, replace(RANKER, num_layers=1), 0),
        dataset.state(torch.arange(7)),
    )
    calls = []
    for part in (ranker.events, ranker.transformer, ranker.pool, ranker.state):
        part.register_forward_hook(lambda module, _, __: calls.append(type(module).__name__))
    with torch.no_grad():
        encoding = ranker.encode_state(state)
        before = len(calls)
        ranker.score(encoding, torch.arange(100).expand(7, -1))
    assert sorted(calls) == ["CausalTransformer", "DecayPool", "EventEncoder", "Sequential"]
    assert before == 4


@pytest.mark.parametrize("num_layers", [0, 1])
def test_sharing_the_events_of_a_session_changes_no_encoding_and_no_gradient(num_layers):
    dataset = tiny_dataset()
    ranker = new_ranker(dataset, replace(RANKER, num_layers=num_layers, dropout=0.0), 0).eval()
    rows = torch.cat([torch.arange(90), torch.arange(400, 430)])
    state, snapshot = dataset.state(rows), dataset.snapshot(rows)
    alone, shared = (
        flat(ranker.encode(state, snapshot, event_rows))
        for event_rows in (None, dataset.history_rows(rows))
    )
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(alone, shared, strict=True))
    learned = [*ranker.events.parameters(), *ranker.value.parameters(), *ranker.gate.parameters()]
    of_alone, of_shared = (
        torch.autograd.grad(
            torch.stack([(p * normal(*p.shape)).sum() for p in parts]).sum(), learned
        )
        for parts in (alone, shared)
    )
    for one, two in zip(of_alone, of_shared, strict=True):
        assert float(one.abs().max()) > 1e-3
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-4 * float(one.abs().max()))


def flat(encoded):
    """Every part of an encoding, -inf left out."""
    encoding, recent_BTD = encoded
    parts = [getattr(encoding, field.name) for field in fields(encoding)]
    return [part.masked_fill(part.isinf(), 0.0) for part in (*parts, recent_BTD)]


def test_the_events_of_a_session_are_encoded_once():
    dataset = tiny_dataset()
    ranker, rows = new_ranker(dataset, RANKER, 0), torch.arange(200)
    encoded = []
    ranker.events.register_forward_hook(lambda _, __, out: encoded.append(out[..., 0].numel()))
    ranker.encode(dataset.state(rows), None, dataset.history_rows(rows))
    ranker.encode(dataset.state(rows), None)
    assert encoded == [1024, 200 * LENGTH]  # the different ones are 700 at most, padded


@torch.no_grad()
def test_decayed_sums_equal_a_loop():
    pool, state = DecayPool(), history(length=12)
    state.step[:] = torch.tensor([3, 0])
    events = normal(2, 12, D) * state.history_mask[..., None]
    expected = []
    for in_session in (True, False):
        for rate in (0.02, 0.2, 1.0):
            total = torch.zeros(2, D)
            for b in range(2):
                for age in range(12):
                    if not in_session or age < int(state.step[b]):
                        weight = (1 - torch.e**-rate) ** 0.5 * torch.e ** (-rate * age)
                        total[b] += weight * events[b, 11 - age]
            expected.append(total)
    assert torch.allclose(pool(events, state_parts(state)), torch.cat(expected, dim=1), atol=1e-5)


def test_tallies_equal_a_loop():
    state = history(length=25, num_seen=14)
    state.history_mask[1] = torch.arange(25) >= 23
    for name in ("history_dwell_s", "history_feedback"):
        value = getattr(state, name)
        value[~state.history_mask] = 0
    told = tallies(state)
    assert told.shape == (2, num_tallies(H))
    for b, num in enumerate((14, 2)):
        events = [
            [
                *state.history_feedback[b, i].float().tolist(),
                float(torch.log1p(state.history_dwell_s[b, i])),
            ]
            for i in range(25 - num, 25)
        ]
        padded = [[0.0] * (H + 1)] * 3 + events
        expected = [x for event in padded[-3:] for x in event]
        for window in (10, 20):
            of_window = events[-window:]
            expected += [sum(column) / len(of_window) for column in zip(*of_window, strict=True)]
        expected.append(float(torch.log1p(torch.tensor(float(num)))))
        assert told[b].tolist() == pytest.approx(expected, abs=1e-5)


def test_tallies_of_no_events():
    state = history(length=5)
    state.history_mask[:] = False
    assert not bool(tallies(state).any())


def test_events_from_before_the_log_have_a_state_as_well():
    """Their position is -1; nothing of them is trained on, and nothing of them is not a number."""
    dataset = tiny_dataset()
    rows = (dataset.position(torch.arange(len(dataset))) < 0).nonzero()[:20, 0]
    assert len(rows) == 20
    ranker = tiny_ranker(0)
    with torch.no_grad():
        encoding = ranker.encode_state(dataset.state(rows))
        assert bool(ranker.score(encoding, torch.arange(5).expand(20, -1)).isfinite().all())
