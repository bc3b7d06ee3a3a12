"""The ranker scores a candidate by the state and the candidate, and by nothing else."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from recomind.errors import ConfigError
from recomind.ranker import RankerConfig, SessionRanker, new_ranker, utility
from recomind.streams import make_generator
from recomind.types import Ranker
from tests.simulation.tiny import (
    LENGTH,
    NUM_ITEMS,
    RANKER,
    tiny_dataset,
    tiny_ranker,
    tiny_world,
)

NUM_STATES, NUM_CANDIDATES = 40, 12


@pytest.fixture
def ranker():
    return copy.deepcopy(tiny_ranker(0))


@pytest.fixture
def state():
    """Mid-session states of the logs, some with padding."""
    dataset = tiny_dataset()
    return dataset.state(dataset.rows("test")[torch.arange(NUM_STATES) * 5])


def candidates(num=NUM_STATES, seed=0):
    return torch.randint(NUM_ITEMS, (num, NUM_CANDIDATES), generator=make_generator(seed))


@torch.no_grad()
def score(ranker, state, item_id):
    return ranker.score(ranker.encode_state(state), item_id)


def close(one, two):
    return torch.allclose(one, two, rtol=0, atol=1e-5)


def test_it_is_a_ranker(ranker, state):
    assert isinstance(ranker, Ranker)
    logits = score(ranker, state, candidates())
    assert logits.shape == (NUM_STATES, NUM_CANDIDATES, 4)
    assert float(logits[..., 0].std()) > 0.05
    assert len(state.history_mask.sum(1).unique()) > 1  # the states are of many lengths


def test_encoding_once_equals_encoding_for_every_candidate(ranker, state):
    item_id = candidates()
    at_once = score(ranker, state, item_id)
    one_by_one = torch.stack(
        [score(ranker, state, item_id[:, k : k + 1])[:, 0] for k in range(NUM_CANDIDATES)], dim=1
    )
    with torch.no_grad():
        repeated = ranker.score(
            ranker.encode_state(state).repeat(NUM_CANDIDATES), item_id.reshape(-1, 1)
        ).reshape(at_once.shape)
    assert close(at_once, one_by_one)
    assert close(at_once, repeated)


def test_the_order_of_the_candidates_is_irrelevant(ranker, state):
    item_id = candidates()
    order = torch.randperm(NUM_CANDIDATES, generator=make_generator(1))
    assert close(score(ranker, state, item_id)[:, order], score(ranker, state, item_id[:, order]))


def test_the_other_states_of_the_batch_are_irrelevant(ranker, state):
    item_id, rows = candidates(), torch.tensor([17, 3, 39])
    assert close(score(ranker, state, item_id)[rows], score(ranker, state[rows], item_id[rows]))


def test_what_stands_under_the_padding_is_irrelevant(ranker, state):
    other, hidden = state.clone(), ~state.history_mask
    assert int(hidden.sum()) > 50
    generator = make_generator(2)
    other.history_item_id[hidden] = torch.randint(
        NUM_ITEMS, (int(hidden.sum()),), generator=generator
    )
    other.history_dwell_s[hidden] = 1_000.0
    other.history_feedback[hidden] = True
    assert torch.equal(score(ranker, other, candidates()), score(ranker, state, candidates()))


@pytest.mark.parametrize(
    "field",
    [
        "history_item_id",
        "history_dwell_s",
        "history_feedback",
        "history_gap_s",
        "gap_s",
        "user_features",
        "step",
    ],
)
def test_everything_else_of_the_state_counts(ranker, state, field):
    other = state.clone()
    value = getattr(other, field)
    match field:
        case "history_feedback":
            value[:, -1] ^= True
        case "history_item_id":
            value[:, -1] = (value[:, -1] + 7) % NUM_ITEMS
        case "history_gap_s" | "gap_s":
            value += 3_600
        case _:
            value += 1
    changed = (score(ranker, other, candidates()) - score(ranker, state, candidates())).abs()
    assert float(changed.amax((1, 2)).median()) > 1e-4


def test_how_often_a_topic_was_seen_stays_visible(ranker):
    """The attention is a sum: eight events of an item weigh more than one."""
    world = tiny_world(warm_events=0)
    state = world.reset(1, make_generator(0))
    with torch.no_grad():
        ranker.recency.fill_(0.0)
        sizes = []
        for num in (1, 8):
            seen = state.clone()
            seen.history_mask[:, -num:] = True
            seen.history_item_id[:, -num:] = 5
            encoding = ranker.encode_state(seen)
            like = ranker._unit(ranker.item_vectors(torch.tensor([[5]]))) @ encoding.keys_BLD.mT
            gate = torch.sigmoid(like * ranker.log_sharpness.exp() + encoding.bias_BL[:, None])
            sizes.append(float(gate.sum()))
    assert sizes[1] == pytest.approx(8 * sizes[0], rel=1e-4)
    assert sizes[0] > 0.9  # an event of the candidate itself opens the gate


def test_precomputed_vectors_are_those_of_the_encoder(ranker, state):
    ids = torch.arange(NUM_ITEMS)
    assert ranker.table is not None
    with torch.no_grad():
        assert close(ranker.item_vectors(ids), ranker.items(ids, ranker.catalogue)[0])
    without = copy.deepcopy(ranker)
    without.table = None
    assert close(score(ranker, state, candidates()), score(without, state, candidates()))


def test_a_ranker_that_cannot_learn_takes_the_whole_item_half_from_the_table(ranker, state):
    expected = score(ranker, state, candidates())
    ranker.requires_grad_(False)
    assert close(score(ranker, state, candidates()), expected)
    assert ranker.table is not None
    ranker.table.wide += 1.0
    assert close(score(ranker, state, candidates()), expected + ranker.calibration.slope)


def test_dated_content_does_not_come_from_the_table(ranker, state):
    """Snapshots of one content give the same scores; the table has no say in them."""
    item_id, latest = candidates(), torch.zeros(NUM_STATES, dtype=torch.int64)
    expected = score(ranker, state, item_id)
    ranker.requires_grad_(False)
    assert ranker.table is not None
    for name in ("vector", "unit", "part", "wide"):
        getattr(ranker.table, name).fill_(torch.nan)
    encoding = ranker.encode_state(state, latest)
    assert close(ranker.score(encoding, item_id, latest[:, None]), expected)


def test_a_large_catalogue_is_not_copied_into_a_table():
    dataset = tiny_dataset()
    ranker = new_ranker(dataset, replace(RANKER, max_table_items=NUM_ITEMS - 1), seed=0)
    assert ranker.precompute_items().table is None
    ranker = new_ranker(dataset, replace(RANKER, max_table_items=NUM_ITEMS), seed=0)
    assert ranker.precompute_items().table is not None


def test_calibration_moves_the_logits_linearly(ranker, state):
    before = score(ranker, state, candidates())
    slope, offset = ranker.calibration.slope.clone(), ranker.calibration.offset.clone()
    ranker.calibration.slope *= 2.0
    ranker.calibration.offset += 0.5
    after = score(ranker, state, candidates())
    assert close((after - ranker.calibration.offset) / 2, before - offset)
    assert bool((slope > 0).all())


def test_utility_is_the_weighted_sum_of_the_probabilities():
    logits = torch.tensor([[[0.0, 2.0, -1.0]]])
    expected = 1.0 * 0.5 - 2.0 / (1 + torch.e**1)
    assert utility(logits, torch.tensor([1.0, 0.0, -2.0])).item() == pytest.approx(expected)


def test_a_shorter_history_than_configured_is_scored(ranker, state):
    item_id = candidates()
    short = state.clone()
    for name in (
        "history_item_id",
        "history_dwell_s",
        "history_feedback",
        "history_gap_s",
        "history_mask",
    ):
        setattr(short, name, getattr(state, name)[:, -4:])
    assert score(ranker, short, item_id).shape == (NUM_STATES, NUM_CANDIDATES, 4)
    assert LENGTH > 4


def test_new_rankers_differ_by_seed_only():
    dataset = tiny_dataset()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, two, other = (new_ranker(dataset, RANKER, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert isinstance(one, SessionRanker)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_members": 0}, "ranker.num_members; got: 0"),
        ({"num_epochs": 0}, "ranker.num_epochs"),
        ({"recent_length": 0}, "ranker.recent_length; got: 0"),
        ({"num_nearest": -1}, "ranker.num_nearest; got: -1; expected: >= 0"),
        ({"num_layers": -1}, "ranker.num_layers"),
        ({"dim": 9, "num_heads": 2}, "does not divide into heads; got: dim=9, num_heads=2"),
        ({"patience": 0}, "ranker.patience"),
        ({"wide_rate": 0.0}, "learning rates must be positive"),
        ({"weight_decay": -0.1}, "not negative"),
        ({"next_action_weight": -1.0}, "not negative"),
        ({"id_dropout": 1.0}, r"ranker.id_dropout; got: 1.0; expected: in \[0, 1\)"),
        ({"learning_rate": 0.0}, "learning rates must be positive"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        RankerConfig(**changes)
