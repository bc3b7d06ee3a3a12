"""Losses against loops, and the Next Action Loss as something that can be learned."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from recomind.ranker import fit_ranker, loss, new_ranker, training_rows
from recomind.ranker.loss import ImpressionLoss, next_action_loss, next_actions
from recomind.streams import make_generator
from tests.ranker.planted import QUICK
from tests.simulation.tiny import RANKER, tiny_dataset

TASK = 2  # "like", which the weights below make the response that counts


def ranker(**changes):
    weights = {"like": 2.0, "watch_10s": 1.0}
    return new_ranker(tiny_dataset(), replace(RANKER, utility_weights=weights, **changes), 0).eval()


def batch(num=12, num_different=4):
    """States of few items, so that items repeat; every second one was liked."""
    dataset = tiny_dataset()
    rows = dataset.rows("train")[torch.arange(num) * 7 + 3]
    state = dataset.state(rows)
    generator = make_generator(0)
    items = 40 + torch.randint(num_different, (num, 15), generator=generator)
    liked = torch.rand(num, 15, 4, generator=generator) < 0.5
    state.history_item_id = items[:, :-1] * state.history_mask
    return state, items, liked, dataset.snapshot(rows)


def naive_next_action_loss(ranker, state, recent_BTD, items, liked, snapshot):
    """Sampled softmax over the other positives, one by one."""
    length = recent_BTD.shape[1]
    positives = []  # (context vector, item, snapshot)
    for b in range(len(items)):
        for t in range(length):
            column = items.shape[1] - length + t  # of the event after recent event t
            if state.history_mask[b, column - 1] and liked[b, column, TASK]:
                positives.append((recent_BTD[b, t], items[b, column], snapshot[b]))
    counts: dict[int, int] = {}
    for _, item, _ in positives:
        counts[int(item)] = counts.get(int(item), 0) + 1
    keys = [ranker.encode_items(item[None], day[None]).unit[0] for _, item, day in positives]
    total = 0.0
    for i, (context, item, _) in enumerate(positives):
        query = ranker.next_action(context)
        query = query / query.norm()
        own, others = 0.0, []
        for j, (_, other, _) in enumerate(positives):
            logit = float(query @ keys[j]) / 0.1 - math.log(counts[int(other)])
            if i == j:
                own = logit
                others.append(logit)
            elif int(other) != int(item):
                others.append(logit)
        total += math.log(sum(math.exp(x) for x in others)) - own
    return total / len(positives)


@torch.no_grad()
@pytest.mark.parametrize("recent_length", [64, 6])
def test_the_next_action_loss_equals_a_loop(recent_length):
    net, (state, items, liked, snapshot) = ranker(recent_length=recent_length), batch()
    recent_BTD = net.encode(state, snapshot)[1]
    assert recent_BTD.shape[1] == min(recent_length, 14)
    assert not bool(state.history_mask.all())  # there is padding that must not count
    got = next_action_loss(net, next_actions(state, recent_BTD, items, liked, snapshot))
    expected = naive_next_action_loss(net, state, recent_BTD, items, liked, snapshot)
    assert float(got) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_items_that_are_all_the_same_have_nothing_to_tell_apart():
    net, (state, items, liked, snapshot) = ranker(), batch(num_different=1)
    recent_BTD = net.encode(state, snapshot)[1]
    after = next_actions(state, recent_BTD, items, liked, snapshot)
    assert float(next_action_loss(net, after)) == 0.0


def test_without_positives_there_is_no_loss_and_still_a_gradient():
    net, (state, items, liked, snapshot) = ranker(), batch()
    recent_BTD = net.encode(state, snapshot)[1]
    after = next_actions(state, recent_BTD, items, liked & False, snapshot)
    nothing = next_action_loss(net, after)
    nothing.backward()
    assert nothing.item() == 0.0


@torch.no_grad()
def test_of_many_positives_some_are_drawn(monkeypatch):
    net, (state, items, liked, snapshot) = ranker(), batch()
    recent_BTD = net.encode(state, snapshot)[1]
    arguments = (net, next_actions(state, recent_BTD, items, liked, snapshot))
    whole = {float(next_action_loss(*arguments)) for _ in range(4)}
    monkeypatch.setattr(loss, "_MAX_POSITIVES", 8)
    drawn = {float(next_action_loss(*arguments)) for _ in range(4)}
    assert max(whole) - min(whole) < 1e-5
    assert max(drawn) - min(drawn) > 1e-3
    assert max(drawn) < min(whole)  # fewer negatives


@torch.no_grad()
def test_the_loss_of_impressions_by_hand():
    """Cross-entropy over tasks and rows, and the weighted Next Action Loss of what was liked."""
    dataset = tiny_dataset()
    rows = dataset.rows("train")[10:310]
    plain, weighted = ranker(run_length=1), ranker(run_length=1, next_action_weight=0.7)
    state, snapshot, labels = dataset.state(rows), dataset.snapshot(rows), dataset.labels(rows)
    encoding, recent_BTD = plain.encode(state, snapshot)
    logits = plain.score(encoding, dataset.item_id(rows)[:, None], snapshot[:, None])[:, 0]
    p = logits.double().sigmoid()
    expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    assert float(ImpressionLoss(plain)(dataset, rows)) == pytest.approx(float(expected), rel=1e-5)
    items = torch.cat([state.history_item_id, dataset.item_id(rows)[:, None]], dim=1)
    liked = torch.cat([state.history_feedback, labels[:, None].bool()], dim=1)
    expected += 0.7 * naive_next_action_loss(plain, state, recent_BTD, items, liked, snapshot)
    assert int(liked[..., TASK].sum()) > 20
    got = float(ImpressionLoss(weighted)(dataset, rows))
    assert got == pytest.approx(float(expected), rel=1e-4)


def next_action(net, dataset):
    """The loss of one fixed batch of the training rows."""
    rows = training_rows(dataset)[:200]
    with torch.no_grad():
        net.config, plain = replace(net.config, next_action_weight=1.0), net.config
        torch.manual_seed(0)
        both = float(ImpressionLoss(net)(dataset, rows))
        net.config = replace(net.config, next_action_weight=0.0)
        alone = float(ImpressionLoss(net)(dataset, rows))
        net.config = plain
    return both - alone


def test_the_next_action_is_learned_only_where_it_has_a_weight():
    dataset = tiny_dataset()
    losses = {}
    for weight in (0.0, 1.0):
        net = new_ranker(dataset, replace(QUICK, num_layers=1, next_action_weight=weight), 0).eval()
        before = next_action(net, dataset)
        fit_ranker(
            net, dataset, num_epochs=6, seed=0, calibration_rows=lambda block: block.rows()[:0]
        )
        losses[weight] = next_action(net, dataset) - before
    assert losses[1.0] < -0.3
    assert losses[1.0] < losses[0.0] - 0.4
