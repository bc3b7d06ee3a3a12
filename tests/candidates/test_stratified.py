"""Draws by cell: as likely as they say, and uniform where there is one cell."""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from recomind.candidates import CandidatePool
from recomind.candidates.chance import StratifiedDraws
from recomind.errors import ConfigError
from recomind.retrieval import (
    IndexKind,
    IndexUpdate,
    ItemIndex,
    LiveIndex,
    RetrievalConfig,
    build_index,
    create_live_index,
)
from recomind.retrieval.cells import Cells
from recomind.streams import make_generator
from recomind.types import Candidates, SessionState
from tests.candidates.pools import Celled, NearZero, config_of, state_of, streams_of

DIM, NUM = 4, 600
VECTORS_ND = functional.normalize(torch.randn(NUM + 20, DIM, generator=make_generator(0)), dim=1)


class Searching:
    """A real index, asked by one query for all."""

    def __init__(self, index: ItemIndex | LiveIndex) -> None:
        self.index, self.num_items = index, index.num_items

    def nearest(self, state: SessionState, num: int) -> Tensor:
        return self.index.search(VECTORS_ND[:1].repeat(len(state.step), 1), num)

    def cells(self) -> Cells:
        return self.index.cells()


def build(kind: IndexKind) -> ItemIndex:
    config = RetrievalConfig(dim=DIM, kind=kind, nprobe=1_000, num_lists=10)
    return build_index(lambda ids: VECTORS_ND[ids], NUM, config)


def check_frequencies(got: Candidates, num_items: int, bounded: Collection[int] = ()) -> set[int]:
    """Shares of the pools agree with `log_propensity`, or are below it for `bounded` items.

    Returns the items that are in a pool at all.
    """
    batch, inside_BN = len(got), torch.zeros(len(got), num_items)
    inside_BN.scatter_add_(1, got.item_id, got.mask.float())
    assert inside_BN.max() <= 1
    share_N = inside_BN.mean(0)
    there = share_N.nonzero()[:, 0]
    stated_N = torch.zeros(num_items).scatter_(
        0, got.item_id[got.mask], got.log_propensity[got.mask].exp()
    )
    for item in there.tolist():
        stated = got.log_propensity[got.mask & (got.item_id == item)].exp()
        assert stated.max() - stated.min() < 1e-6, "one figure an item"
        share, expected = float(share_N[item]), float(stated_N[item])
        sigma = math.sqrt(expected * (1 - expected) / batch)
        assert share < expected + 6 * sigma + 3 / batch
        if item not in bounded:
            assert share > expected - 6 * sigma - 3 / batch
    return set(there.tolist())


def test_a_flat_index_is_drawn_from_as_without_strata() -> None:
    plain, by_cell = (
        CandidatePool(config_of(k=20, stratified=s), NUM, Searching(build(IndexKind.flat)))
        for s in (False, True)
    )
    state, streams = state_of(500), streams_of(500)
    a, b = plain.candidates(state, streams), by_cell.candidates(state, streams)
    assert torch.equal(a.item_id, b.item_id)
    assert torch.equal(a.log_propensity, b.log_propensity)


@pytest.mark.parametrize("near", [0, 3])
def test_frequencies_of_cells_of_many_sizes(near: int) -> None:
    """Cells of 1, 2, 4, 8, 5 items: a cell in five draws, whatever its size."""
    batch, num_items = 60_000, 20
    pool = CandidatePool(
        config_of(k=6, near=near, fresh=0, stratified=True), num_items, Celled(num_items)
    )
    got = pool.candidates(state_of(batch), streams_of(batch))
    assert check_frequencies(got, num_items) == set(range(num_items))
    num_draws = 6 - near
    stated = got.log_propensity[got.item_id == 8][0].exp()
    assert float(stated) == pytest.approx(1 - (1 - 1 / 40) ** num_draws, rel=1e-5)


class Sized(NearZero):
    """Cells of the given sizes; the last items are what it generates."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__(sum(sizes))
        self.bounds = [0, *torch.tensor(sizes).cumsum(0).tolist()]

    def cells(self) -> Cells:
        return Cells([range(*pair) for pair in pairwise(self.bounds)])

    def generate(self, state: SessionState, num: int) -> Tensor:
        return (self.num_items - 1 - torch.arange(num)).repeat(len(state.step), 1)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 6), min_size=2, max_size=8).filter(lambda s: sum(s) > 8),
    near=st.integers(0, 2),
    num_generated=st.integers(0, 2),
    blocked=st.sets(st.integers(0, 6), max_size=2),
    stratified=st.booleans(),
)
def test_frequencies_whatever_the_sources(
    sizes: list[int], near: int, num_generated: int, blocked: set[int], stratified: bool
) -> None:
    batch, source = 8_000, Sized(sizes)
    # Otherwise a pool may lose all its draws to blocked items, which is an error.
    assume(near + num_generated > 0)
    config = config_of(k=5, near=near, fresh=0, blocked=sorted(blocked), stratified=stratified)
    config.num_generated = num_generated
    generator = source if num_generated else None
    pool = CandidatePool(config, source.num_items, source, generator=generator)
    got = pool.candidates(state_of(batch), streams_of(batch))
    check_frequencies(got, source.num_items)


def test_fresh_items_have_an_upper_bound() -> None:
    batch, num_items, fresh = 60_000, 20, torch.tensor([0, 4, 17])
    pool = CandidatePool(
        config_of(k=6, near=1, fresh=2, stratified=True), num_items, Celled(num_items), fresh
    )
    got = pool.candidates(state_of(batch), streams_of(batch))
    assert check_frequencies(got, num_items, bounded={4, 17}) == set(range(num_items))
    bound = 1 - (1 - 1 / 5) ** 3 * (1 - 1 / 3) ** 2
    assert float(got.log_propensity[got.item_id == 17][0].exp()) == pytest.approx(bound, rel=1e-5)


def test_frequencies_over_an_index_with_inverted_lists() -> None:
    batch = 60_000
    pool = CandidatePool(
        config_of(k=40, near=0, fresh=0, stratified=True), NUM, Searching(build(IndexKind.ivf))
    )
    assert check_frequencies(pool.candidates(state_of(batch), streams_of(batch)), NUM) == set(
        range(NUM)
    )


@pytest.mark.parametrize("merged", [False, True])
def test_frequencies_over_a_live_index(merged: bool, tmp_path: Path) -> None:
    live, batch = create_live_index(tmp_path, build(IndexKind.ivf)), 40_000
    late, gone = torch.tensor([1, 2, *range(NUM, NUM + 20)]), torch.arange(300, 400)
    change = IndexUpdate(
        version=1, num_items=NUM + 20, item_id=late, vectors=VECTORS_ND[late], withdrawn=gone
    )
    live.update(change)
    if merged:
        live.merge()
    pool = CandidatePool(
        config_of(k=30, near=2, fresh=0, stratified=True), NUM + 20, Searching(live)
    )
    got = pool.candidates(state_of(batch), streams_of(batch))
    assert check_frequencies(got, NUM + 20) == set(range(NUM + 20)) - set(gone.tolist())


def test_one_uniform_reaches_every_item_of_large_cells() -> None:
    class Large:
        def cells(self) -> Cells:
            return Cells([range(n * 10**6, (n + 1) * 10**6) for n in range(100)])

    unit = torch.rand(1000, 200, dtype=torch.float64, generator=make_generator(1))
    drawn = StratifiedDraws(Large())(unit)
    assert drawn.item_id.unique().numel() > 0.998 * unit.numel()
    assert torch.bincount(drawn.item_id.flatten() % 8).min() > 0.97 * unit.numel() / 8
    ends = StratifiedDraws(Large())(torch.tensor([[2.0**-47, 1 - 2.0**-47]], dtype=torch.float64))
    assert ends.item_id.tolist() == [[0, 10**8 - 1]]


def test_an_index_from_which_all_is_gone_draws_nothing() -> None:
    class Empty:
        def cells(self) -> Cells:
            return Cells([])

    drawn = StratifiedDraws(Empty())(torch.full((2, 3), 0.5, dtype=torch.float64))
    assert drawn.item_id.tolist() == [[-1] * 3] * 2


def test_without_an_index_draws_are_uniform() -> None:
    got, plain = (
        CandidatePool(config_of(stratified=s), 1000).candidates(state_of(9), streams_of(9))
        for s in (True, False)
    )
    assert torch.equal(got.item_id, plain.item_id)


def test_a_retrieval_without_cells_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"need a retrieval with cells; got: NearZero; .*a method cells\(\)"
    ):
        CandidatePool(config_of(stratified=True), 1000, NearZero(1000))
