"""Withdrawn and blocked items: in no pool, and the propensities of the others stay exact."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recomind.candidates import CandidatePool, make_pool
from recomind.candidates.sources import _say_fewer
from recomind.candidates.withheld import Withheld
from recomind.data import (
    CatalogueStore,
    StoreFormat,
    add_items,
    create_catalogue_store,
    withdraw_items,
)
from recomind.errors import ConfigError, RecomindError, SchemaError
from recomind.types import Candidates, SessionState
from tests.candidates.pools import Celled, NearZero, config_of, state_of, streams_of


def store_of(folder: Path, num: int, gone: list[int]) -> CatalogueStore:
    """A store of `num` items, of which `gone` are withdrawn."""
    form = StoreFormat(dense_names=["age"], categorical_names=["tag"], vocab_sizes=[2])
    create_catalogue_store(folder / "store", form)
    tag = [0] * num
    rows = pl.DataFrame({"item_id": range(num), "age": [0.0] * num, "tag": tag})
    rows.write_parquet(folder / "items.parquet")
    add_items(folder / "store", folder / "items.parquet")
    return withdraw_items(folder / "store", torch.tensor(gone, dtype=torch.int64))


class Gone:
    """A catalogue that has withdrawn some items."""

    def __init__(self, item_id: set[int]) -> None:
        self.item_id = torch.tensor(sorted(item_id), dtype=torch.int64)

    def is_withdrawn(self, item_id: Tensor) -> Tensor:
        return torch.isin(item_id, self.item_id)


class First:
    """Generates 0, 1, 2, ..."""

    def generate(self, state: SessionState, num: int) -> Tensor:
        return torch.arange(num).repeat(len(state.step), 1)


def offered(got: Candidates) -> set[int]:
    return set(got.item_id[got.mask].tolist())


def test_open_items_against_a_list() -> None:
    blocked = torch.tensor([5, 0, 1, 5, 9])
    withheld = Withheld(10, blocked)
    assert withheld.num_open == 6
    assert withheld.open_item(torch.arange(6)).tolist() == [2, 3, 4, 6, 7, 8]


def test_a_store_that_items_go_from(tmp_path: Path) -> None:
    store = store_of(tmp_path, 60, [0, 2, 41])
    fresh, state = torch.tensor([40, 41]), state_of(300)
    pool = make_pool(config_of(k=16, blocked=[1, 40]), store, NearZero(60), fresh)
    assert offered(pool.candidates(state, streams_of(300))) == set(range(60)) - {0, 1, 2, 40, 41}
    withdraw_items(store.folder, torch.arange(3, 50))
    assert store.refresh()
    assert offered(pool.candidates(state, streams_of(300))) == set(range(50, 60))


def test_the_next_nearest_come_in_their_place() -> None:
    retrieval = NearZero(1000)
    state = state_of(2, history=[7])
    pool = CandidatePool(config_of(blocked=[0, 2]), 1000, retrieval, withdrawn=Gone({1, 3, 4, 5}))
    got = pool.candidates(state, streams_of(2))
    assert got.item_id[:, :3].tolist() == [[6, 8, 9]] * 2
    assert got.mask[:, :3].all()
    assert retrieval.asked == 7 * 2


def test_looking_on_ends() -> None:
    retrieval = NearZero(10**6)
    pool = CandidatePool(config_of(), 10**6, retrieval, withdrawn=Gone(set(range(2000))))
    got = pool.candidates(state_of(2), streams_of(2))
    assert not got.mask[:, :3].any()
    assert got.mask[:, 3:].all(), "random draws are still there"
    assert retrieval.asked == 7 * 16
    few = NearZero(1000, found=5)  # an index that knows no more is not asked again
    CandidatePool(config_of(), 1000, few, withdrawn=Gone({0})).candidates(
        state_of(2), streams_of(2)
    )
    assert few.asked == 7


def test_fresh_draws_are_of_what_may_be_offered() -> None:
    config, fresh = config_of(fresh=2, blocked=[90]), torch.tensor([90, 91, 92])
    some = CandidatePool(config, 1000, NearZero(1000), fresh, withdrawn=Gone({91}))
    got = some.candidates(state_of(50), streams_of(50))
    assert got.mask[:, 3].all()
    assert set(got.item_id[:, 3].tolist()) == {92}
    none = CandidatePool(config, 1000, NearZero(1000), fresh[:2], withdrawn=Gone({91}))
    drawn = none.candidates(state_of(50), streams_of(50)).item_id[:, 3:]
    assert drawn.unique().numel() > 150, "their slots go to random draws"


def test_only_who_comes_short_is_asked_about_again() -> None:
    class Own(NearZero):
        """Everyone's nearest begin at 100 times the user id."""

        def nearest(self, state: SessionState, num: int) -> Tensor:
            self.asked += len(state.step)
            return state.user_id[:, None] * 100 + torch.arange(num)

    retrieval = Own(1000)
    pool = CandidatePool(config_of(), 1000, retrieval, blocked_item_id=torch.arange(200, 206))
    got = pool.candidates(state_of(4), streams_of(4))
    assert retrieval.asked == 5
    assert got.item_id[:, :3].tolist() == [[b, b + 1, b + 2] for b in (0, 100, 206, 300)]


def test_a_catalogue_that_fits_but_for_blocked_items_is_its_own_pool() -> None:
    pool = CandidatePool(config_of(blocked=[0, 5, 8]), 10, withdrawn=Gone({3}))
    got = pool.candidates(state_of(2), streams_of(2))
    assert got.item_id[0].tolist() == [1, 2, 0, 4, 6, 7, 9, 0]
    assert got.mask[0].tolist() == [True, True, False, True, True, True, True, False]
    assert not got.log_propensity.any()


@settings(max_examples=60, deadline=None)
@given(
    num_items=st.integers(1, 40),
    k=st.integers(2, 12),
    blocked=st.sets(st.integers(0, 39), max_size=30),
    gone=st.sets(st.integers(0, 39), max_size=30),
    history=st.lists(st.integers(0, 39), max_size=6),
    fresh=st.sets(st.integers(0, 39), max_size=5),
    stratified=st.booleans(),
)
def test_no_withheld_item_is_ever_in_a_pool(
    num_items: int,
    k: int,
    blocked: set[int],
    gone: set[int],
    history: list[int],
    fresh: set[int],
    stratified: bool,
) -> None:
    there = set(range(num_items))
    blocked, left = blocked & there, there - blocked - gone
    config = config_of(k=k, near=k // 3, fresh=k // 4, blocked=sorted(blocked))
    config.num_generated, config.stratified = 1, stratified
    state = state_of(20, [item for item in history if item < num_items])
    try:
        pool = CandidatePool(
            config,
            num_items,
            Celled(num_items),
            torch.tensor(sorted(fresh & there), dtype=torch.int64),
            generator=First(),
            withdrawn=Gone(gone),
        )
        got = pool.candidates(state, streams_of(20))
    except RecomindError as error:
        said = error.what
    else:
        said = ""
        assert offered(got) <= left
        assert got.mask.any(1).all()
        assert not got.log_propensity[~got.mask].any()
    if len(blocked) == num_items:
        assert said == "every item of the catalogue is blocked"
    elif not left:
        assert said == "a pool without candidates"
    elif num_items - len(blocked) <= k:
        assert not said, "chance may lose every draw of a pool, but not where all items are in it"


@pytest.mark.parametrize(("near", "fresh"), [(0, 0), (2, 0), (1, 2)])
def test_propensities_of_the_others_are_frequencies(near: int, fresh: int) -> None:
    batch, num_items = 40_000, 14
    pool = CandidatePool(
        config_of(k=6, near=near, fresh=fresh, blocked=[0, 4]),
        num_items,
        NearZero(num_items),
        torch.tensor([1, 4, 9, 10]),
        withdrawn=Gone({2, 10}),
    )
    got = pool.candidates(state_of(batch), streams_of(batch))
    assert offered(got) == set(range(num_items)) - {0, 2, 4, 10}
    for item in offered(got):
        inside = got.mask & (got.item_id == item)
        stated = got.log_propensity[inside].exp()
        assert stated.max() - stated.min() < 1e-6
        share, expected = float(inside.any(1).float().mean()), float(stated[0])
        sigma = math.sqrt(expected * (1 - expected) / batch)
        assert abs(share - expected) < 4 * sigma + 1e-6


def test_an_index_that_is_ahead_of_the_catalogue_brings_nothing_unknown() -> None:
    class Ahead(NearZero):
        def nearest(self, state: SessionState, num: int) -> Tensor:
            return super().nearest(state, num) + self.num_items - 1

    got = CandidatePool(config_of(), 100, Ahead(100)).candidates(state_of(5), streams_of(5))
    assert got.mask[:, :3].tolist() == [[True, False, False]] * 5
    assert int(got.item_id.max()) < 100


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CandidatePool(config_of(blocked=[0, 1]), 2), ConfigError, "every item .* blocked"),
        (
            lambda: CandidatePool(config_of(), 9, blocked_item_id=torch.tensor([2, 9])),
            SchemaError,
            "blocked items outside the catalogue; got: 2 .. 9; expected: 0 .. 8",
        ),
        (
            lambda: CandidatePool(config_of(), 5, withdrawn=Gone(set(range(5)))).candidates(
                state_of(3), streams_of(3)
            ),
            SchemaError,
            "a pool without candidates; got: 3 of 3 pools, the first is row 0: .* withdrawn",
        ),
        (
            lambda: CandidatePool(config_of(k=2, near=2, fresh=0), 9, NearZero(9, 0)).candidates(
                state_of(1), streams_of(1)
            ),
            SchemaError,
            "a pool without candidates",
        ),
    ],
)
def test_where_nothing_is_left_that_is_said(make, error: type[RecomindError], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_fewer_items_than_slots_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    _say_fewer.cache_clear()
    with caplog.at_level(logging.WARNING, "recomind"):
        CandidatePool(config_of(blocked=[0]), 9)
        assert not caplog.records
        for _ in range(2):
            CandidatePool(config_of(blocked=[0, 1]), 9)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "a pool has at most 7 candidates, not candidates.num_candidates=8"
    ]
