"""Items are known by id and by content, and what has no id yet by content alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from recomind.data import TableCatalogue
from recomind.errors import SchemaError
from recomind.ranker import RankerConfig, fit_ranker, new_ranker, utility
from recomind.ranker.items import ItemEncoder
from recomind.ranker.training import make_optimizers
from recomind.streams import make_generator
from tests.ranker.planted import QUICK, even_topic, planted_dataset
from tests.simulation.tiny import NUM_ITEMS, RANKER, tiny_dataset, tiny_ranker

NUM, ID = 40, "feature_0"


def catalogue(num_items=NUM, dense=2):
    generator = make_generator(1)
    return TableCatalogue(
        torch.randn(3, num_items, dense, generator=generator),
        torch.randint(5, (num_items, 1), generator=generator),
        dense_names=tuple(f"d{i}" for i in range(dense)),
        categorical_names=("tag",),
        vocab_sizes=(5,),
    )


def encoder(items=None, **changes):
    torch.manual_seed(0)
    settings: dict[str, Any] = {"dim": 8, "hidden": 8, "id_buckets": NUM, "dropout": 0.0} | changes
    return ItemEncoder(items or catalogue(), RankerConfig(**settings))


def table(items, feature) -> Any:
    return items.tables.embedding_bags[f"table_{feature}"].weight


def test_gradients_of_the_tables_are_sparse_and_hold_the_items_of_the_batch_alone():
    items, known = encoder(hash_ids=False, id_dropout=0.0), catalogue()
    ids = torch.tensor([3, 17, 31])
    items.train()(ids, known)[0].sum().backward()
    for feature, rows in ((ID, ids), ("feature_1", known.features(ids).categorical[:, 0])):
        gradient = table(items, feature).grad
        assert gradient.is_sparse
        touched = gradient.coalesce()
        assert touched.indices()[0].tolist() == rows.unique().tolist()
        assert bool(touched.values().any(1).all())


def test_an_update_moves_no_row_of_an_item_that_was_not_there():
    dataset = tiny_dataset()
    ranker = new_ranker(dataset, replace(RANKER, id_buckets=512, hash_ids=False), 0).train()
    before = table(ranker.items, ID).detach().clone()
    optimizers = make_optimizers(ranker, ranker.config)
    ids = torch.arange(10, 30)
    ranker.items(ids, ranker.catalogue)[0].square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    moved = (table(ranker.items, ID) != before).any(1)
    assert set(moved.nonzero()[:, 0].tolist()) <= set(ids.tolist())
    assert 5 <= int(moved.sum()) < 20  # some ids were hidden


def test_every_parameter_belongs_to_one_optimizer_and_only_tables_to_the_sparse_one():
    ranker = new_ranker(tiny_dataset(), RANKER, 0)
    dense, sparse = (
        [id(p) for group in optimizer.param_groups for p in group["params"]]
        for optimizer in make_optimizers(ranker, RANKER)
    )
    assert sorted(dense + sparse) == sorted(id(p) for p in ranker.parameters())
    tables = {id(bag.weight) for bag in ranker.items.tables.embedding_bags.values()}
    assert set(sparse) == tables


def test_without_hashing_an_id_is_its_row():
    items, known = encoder(hash_ids=False).eval(), catalogue()
    with torch.no_grad():
        before = items(torch.arange(NUM), known)[0]
        table(items, ID)[13] += 1.0
        moved = (items(torch.arange(NUM), known)[0] != before).any(1)
    assert moved.nonzero()[:, 0].tolist() == [13]


def test_with_hashing_ids_share_few_rows():
    items, known = encoder(id_buckets=4).eval(), catalogue()
    with torch.no_grad():
        before = items(torch.arange(NUM), known)[0]
        table(items, ID)[2] += 1.0
        moved = (items(torch.arange(NUM), known)[0] != before).any(1)
    assert 3 <= int(moved.sum()) <= 20


def test_a_table_that_is_smaller_than_an_id_is_refused():
    encoder(hash_ids=False, id_buckets=NUM)
    with pytest.raises(SchemaError, match=r"id_buckets=39 for 40 items.*ranker.hash_ids=true"):
        encoder(hash_ids=False, id_buckets=NUM - 1)
    encoder(hash_ids=True, id_buckets=NUM - 1)


def test_an_items_id_is_hidden_now_and_then_in_training_only():
    ranker = copy.deepcopy(tiny_ranker(0))
    dropout: Any = ranker.items.net[2]
    dropout.p = 0.0
    table(ranker.items, ID).data.fill_(1.0)
    ids = torch.arange(200)
    with torch.no_grad():
        ranker.train()
        torch.manual_seed(0)
        one, two = (ranker.items(ids, ranker.catalogue)[0] for _ in range(2))
        share = float((one != two).any(1).float().mean())
        ranker.eval()
        known, again = (ranker.items(ids, ranker.catalogue)[0] for _ in range(2))
    assert torch.equal(known, again)
    assert share == pytest.approx(2 * 0.3 * 0.7, abs=0.12)
    shown = (one == known).all(1)
    assert float(shown.float().mean()) == pytest.approx(0.7, abs=0.12)


def test_what_is_hidden_is_the_id_and_nothing_of_the_content():
    items, known = encoder(id_dropout=0.5).train(), catalogue()
    ids = torch.zeros(100, dtype=torch.int64) + 7
    vectors, numbers = items(ids, known)
    assert len(vectors.detach().round(decimals=5).unique(dim=0)) == 2
    assert len(numbers.unique(dim=0)) == 1
    with torch.no_grad():
        table(items, ID).zero_()
        assert len(items(ids, known)[0].round(decimals=5).unique(dim=0)) == 1


def test_content_is_that_of_the_snapshot():
    items, known = encoder().eval(), catalogue()
    ids = torch.arange(NUM)
    with torch.no_grad():
        latest, dated = items(ids, known), items(ids, known, torch.full((NUM,), 2))
        older = items(ids, known, torch.zeros(NUM, dtype=torch.int64))
    assert torch.equal(latest[0], dated[0])
    assert bool((latest[0] != older[0]).any(1).all())


def test_items_without_numbers():
    known = catalogue(dense=0)
    vectors, numbers = encoder(known)(torch.arange(5), known)
    assert vectors.shape == (5, 8)
    assert numbers.shape == (5, 0)


def test_an_item_that_was_never_seen_scores_as_its_content_says():
    """Items of even topics are watched; a third of the items is in no event of the training."""
    unseen = torch.arange(NUM_ITEMS) % 3 == 0
    dataset = planted_dataset(kept=~unseen)
    assert not bool(unseen[dataset.item_id(dataset.rows())].any())
    ranker = fit_ranker(
        new_ranker(dataset, QUICK, 0),
        dataset,
        num_epochs=4,
        seed=0,
        rows=lambda block: block.rows("train"),
    )
    state = dataset.state(dataset.rows("test")[:50])
    with torch.no_grad():
        ids = torch.arange(NUM_ITEMS).expand(50, -1)
        watched = utility(
            ranker.score(ranker.encode_state(state), ids), torch.tensor([1.0, 0.0, 0.0, 0.0])
        )
    even = even_topic(torch.arange(NUM_ITEMS))
    for items in (unseen, ~unseen):
        assert float(watched[:, items & even].mean()) > 0.65
        assert float(watched[:, items & ~even].mean()) < 0.35
