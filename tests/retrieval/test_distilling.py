"""Queries that learn what a policy values, on values that the towers know nothing of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from recomind.artifacts import Manifest, read_manifest
from recomind.data import SessionDataset
from recomind.errors import ConfigError, SchemaError
from recomind.retrieval import (
    DistilConfig,
    Retrieval,
    RetrievalConfig,
    create_live_index,
    distil_queries,
    load_retrieval,
    value_recall,
)
from recomind.retrieval.distilling import pool_targets
from recomind.retrieval.retrieval import index_items
from recomind.retrieval.training import fit_towers
from recomind.streams import hash_uniform, make_generator
from recomind.types import SessionState

NUM_TAGS, NUM = 5, 20  # of the fixtures' world; k of the recall
CONFIG = DistilConfig(
    num_states=1000, num_nearest=20, num_uniform=40, hidden=32, num_epochs=12, learning_rate=1e-2
)


def next_tag(state: SessionState, item_id: Tensor) -> Tensor:
    """A policy that wants another tag than the one the user answers to."""
    wanted = (state.user_id % NUM_TAGS + 1) % NUM_TAGS
    return (item_id % NUM_TAGS == wanted[:, None]).float() + 0.1 * hash_uniform(item_id)


def supported(state: SessionState, item_id: Tensor) -> Tensor:
    """The same among even items only."""
    return next_tag(state, item_id).masked_fill(item_id % 2 == 1, -torch.inf)


def a_few(state: SessionState, item_id: Tensor) -> Tensor:
    """The same among the first 30 items only."""
    return next_tag(state, item_id).masked_fill(item_id >= 30, -torch.inf)


def recall_of(retrieval: Retrieval, state: SessionState, values=next_tag, **changes) -> float:
    settings = {"max_items": 1000, "generator": make_generator(0)} | changes
    return value_recall(retrieval, values, state, settings.pop("num", NUM), **settings)


@pytest.fixture(scope="module")
def before(dataset: SessionDataset) -> Retrieval:
    config = RetrievalConfig(dim=8, hidden=16, num_epochs=8, batch_size=128, learning_rate=1e-2)
    return index_items(fit_towers(dataset, config), dataset.catalogue, config)


@pytest.fixture(scope="module")
def learned(dataset: SessionDataset) -> SessionState:
    return dataset.state(dataset.rows("train")[: CONFIG.num_states])


@pytest.fixture(scope="module")
def state(dataset: SessionDataset) -> SessionState:
    return dataset.state(dataset.rows("calibration")[:200])


@pytest.fixture(scope="module")
def after(before: Retrieval, learned: SessionState) -> Retrieval:
    return distil_queries(before, next_tag, learned, CONFIG, make_generator(0))


def test_what_is_valued_is_fetched(
    before: Retrieval, after: Retrieval, state: SessionState
) -> None:
    wanted = ((state.user_id % NUM_TAGS + 1) % NUM_TAGS)[:, None]
    assert (before.nearest(state, NUM) % NUM_TAGS == wanted).float().mean() < 0.2
    assert (after.nearest(state, NUM) % NUM_TAGS == wanted).float().mean() > 0.95
    assert recall_of(before, state, num=80) < 0.2
    assert recall_of(after, state, num=80) > 0.9


def test_only_the_query_has_changed(before: Retrieval, after: Retrieval) -> None:
    assert after.index is before.index
    assert after.model is before.model
    assert before.head is None


def test_targets_are_a_softmax_of_standardised_values(state: SessionState) -> None:
    item_id = torch.arange(12).expand(6, -1)
    got = pool_targets(supported, state[:6], item_id, 0.5)
    assert (got[:, 1::2] == 0).all(), "odd items may not be chosen"
    value = next_tag(state[:6], item_id)[:, ::2]
    deviation = value.std(1, correction=0, keepdim=True)
    expected = (value / deviation / 0.5).softmax(1)
    torch.testing.assert_close(got[:, ::2], expected, rtol=1e-4, atol=1e-6)


def test_an_untrained_head_changes_nothing(
    before: Retrieval, learned: SessionState, state: SessionState
) -> None:
    idle = DistilConfig(num_states=1, num_epochs=0)
    same = distil_queries(before, next_tag, learned, idle, make_generator(0))
    torch.testing.assert_close(same.query(state), before.query(state))
    assert same.head is not None


def test_equal_generators_give_equal_heads(before: Retrieval, learned: SessionState) -> None:
    short = DistilConfig(num_states=1, num_epochs=1, num_uniform=8)
    one, two, other = (
        distil_queries(before, next_tag, learned, short, make_generator(seed)).query(learned)
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.allclose(one, other, atol=1e-4)


def test_the_scale_of_the_values_does_not_matter(
    before: Retrieval, learned: SessionState, state: SessionState
) -> None:
    short = DistilConfig(num_states=1, num_epochs=1, num_uniform=8)

    def scaled(state: SessionState, item_id: Tensor) -> Tensor:
        return 100.0 * next_tag(state, item_id) - 7.0

    one, two = (
        distil_queries(before, values, learned, short, make_generator(0)).query(state)
        for values in (next_tag, scaled)
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-3)


def test_loaded_equals_distilled(after: Retrieval, state: SessionState, tmp_path: Path) -> None:
    after.save(tmp_path / "index", Manifest(kind="index"))
    files = set(read_manifest(tmp_path / "index").files)
    assert files == {"index.faiss", "towers.safetensors", "query_head.safetensors"}
    loaded = load_retrieval(tmp_path / "index", after.catalogue)
    assert torch.equal(loaded.query(state), after.query(state))
    assert torch.equal(loaded.nearest(state, NUM), after.nearest(state, NUM))


def test_a_live_index_takes_a_distilled_query(
    before: Retrieval, after: Retrieval, state: SessionState, learned: SessionState, tmp_path: Path
) -> None:
    live = create_live_index(tmp_path / "live", before.index)  # type: ignore[arg-type]
    over = Retrieval(before.model, live, before.catalogue)
    got = distil_queries(over, next_tag, learned, CONFIG, make_generator(0))
    assert torch.equal(got.nearest(state, NUM), after.nearest(state, NUM))


@pytest.mark.parametrize("values", [next_tag, supported, a_few])
def test_value_recall_against_a_loop(before: Retrieval, state: SessionState, values) -> None:
    """50 items are looked for; of `a_few` fewer may be chosen, and only those count."""
    few, num = state[:20], 50
    value = values(few, torch.arange(400).expand(20, -1))
    near, hits, total = before.nearest(few, num), 0, 0
    for row in range(20):
        best = sorted(range(400), key=lambda i: -float(value[row, i]))[:num]
        best = [i for i in best if value[row, i] > -torch.inf]
        hits += len(set(best) & set(near[row].tolist()))
        total += len(best)
    assert recall_of(before, few, values, num=num) == pytest.approx(hits / total)


def test_value_recall_of_a_sample(before: Retrieval, after: Retrieval, state: SessionState) -> None:
    """100 draws of 400 items, some 88 of them distinct: about 18 of the wanted tag."""
    assert recall_of(before, state, num=15, max_items=100) < 0.2
    assert recall_of(after, state, num=15, max_items=100) > 0.7
    assert len(after.nearest(state, NUM).unique()) > 0
    assert after.num_items == 400


@pytest.mark.parametrize("broken", [torch.nan, -torch.inf])
def test_values_without_a_number_are_refused(
    before: Retrieval, state: SessionState, broken: float
) -> None:
    def values(state: SessionState, item_id: Tensor) -> Tensor:
        return torch.full(item_id.shape, broken)

    with pytest.raises(SchemaError, match="the values are not finite"):
        distil_queries(before, values, state, CONFIG, make_generator(0))


def test_no_state_is_refused(before: Retrieval, state: SessionState) -> None:
    with pytest.raises(SchemaError, match="no state to distil a query from"):
        distil_queries(before, next_tag, state[:0], CONFIG, make_generator(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_states": -1}, r"distil.num_states; got: -1; expected: >= 0"),
        ({"temperature": 0.0}, r"distil.temperature; got: 0.0; expected: > 0"),
        ({"num_nearest": 1, "num_uniform": 0}, "a pool of one has no order"),
        ({"max_recall_items": 10}, "distil.max_recall_items; got: 10; expected: >= distil.recall"),
    ],
)
def test_bad_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DistilConfig(**changes)
