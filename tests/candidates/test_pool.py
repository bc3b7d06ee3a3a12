"""The pool: who is in it, with what probability, and that it is repeatable."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.candidates.draws import fine_uniforms, uniform_items
from recomind.data import among_rows, first_occurrence
from recomind.errors import ConfigError, RecomindError, SchemaError
from recomind.streams import LANE_POOL, SessionStreams, make_generator
from recomind.types import CandidateSource
from tests.candidates.pools import NearZero, config_of, state_of, streams_of


def test_pool_is_a_candidate_source_on_the_lane_of_pools() -> None:
    pool = CandidatePool(config_of(), 100)
    assert isinstance(pool, CandidateSource)
    assert pool.lane == LANE_POOL


def test_shares_of_a_pool() -> None:
    pool = CandidatePool(config_of(), 1000, NearZero(1000), torch.tensor([997, 998, 999]))
    got = pool.candidates(state_of(500), streams_of(500))
    assert got.item_id.shape == (500, 8)
    assert torch.equal(got.item_id[:, :3], torch.arange(3).repeat(500, 1))
    assert set(got.item_id[:, 3].tolist()) == {997, 998, 999}
    assert got.item_id[:, 4:].unique().numel() > 700


def test_no_item_twice_and_padding_is_zero() -> None:
    pool = CandidatePool(config_of(k=16), 20, NearZero(20), torch.tensor([0, 1]))
    got = pool.candidates(state_of(300), streams_of(300))
    for ids, mask in zip(got.item_id, got.mask, strict=True):
        real = ids[mask].tolist()
        assert len(real) == len(set(real))
    assert not got.item_id[~got.mask].any()
    assert not got.log_propensity[~got.mask].any()
    assert not got.mask.all(), "16 slots of 20 items must have collided"


def test_first_occurrence_against_a_loop() -> None:
    ids = torch.randint(-1, 6, (200, 9), generator=make_generator(3))
    for row, got in zip(ids.tolist(), first_occurrence(ids).tolist(), strict=True):
        assert got == [item not in row[:k] for k, item in enumerate(row)]


@pytest.mark.parametrize("num_other", [0, 1, 4])
def test_among_rows_against_a_loop(num_other: int) -> None:
    generator = make_generator(4)
    ids = torch.randint(-1, 9, (200, 7), generator=generator)
    others = torch.randint(-1, 9, (200, num_other), generator=generator)
    for row, other, got in zip(ids, others, among_rows(ids, others), strict=True):
        assert got.tolist() == [item in other.tolist() for item in row.tolist()]


def test_recently_seen_are_left_out_and_replaced_by_the_next_nearest() -> None:
    retrieval = NearZero(1000)
    pool = CandidatePool(config_of(recent=2), 1000, retrieval)
    got = pool.candidates(state_of(400, history=[2, 1, 0]), streams_of(400))
    assert retrieval.asked == 5
    assert got.item_id[0, :3].tolist() == [2, 3, 4], "2 is older than the last two events"
    assert not (got.mask & torch.isin(got.item_id, torch.tensor([0, 1]))).any()


def test_padding_of_the_history_does_not_exclude_item_0() -> None:
    pool = CandidatePool(config_of(), 1000, NearZero(1000))
    got = pool.candidates(state_of(2, history=[5]), streams_of(2))
    assert got.item_id[:, 0].tolist() == [0, 0]
    assert got.mask[:, 0].all()


def test_nothing_is_excluded_where_the_setting_is_0() -> None:
    pool = CandidatePool(config_of(recent=0), 1000, NearZero(1000))
    got = pool.candidates(state_of(1, history=[0, 1, 2]), streams_of(1))
    assert got.item_id[0, :3].tolist() == [0, 1, 2]
    assert got.mask[0, :3].all()


def test_an_index_that_finds_fewer_leaves_padding() -> None:
    pool = CandidatePool(config_of(recent=0), 1000, NearZero(1000, found=1))
    got = pool.candidates(state_of(1), streams_of(1))
    assert got.mask[0, :3].tolist() == [True, False, False]


@pytest.mark.parametrize("num_items", [1, 5, 8])
def test_small_catalogue_is_its_own_pool(num_items: int) -> None:
    pool = CandidatePool(config_of(), num_items, NearZero(num_items))
    got = pool.candidates(state_of(2), streams_of(2))
    assert got.item_id.shape == (2, 8)
    assert got.item_id[0, :num_items].tolist() == list(range(num_items))
    assert got.mask.sum(1).tolist() == [num_items] * 2
    assert not got.log_propensity.any()


class Paired(NearZero):
    """Items 2 n and 2 n + 1 point the same way, no two others do."""

    def item_vectors(self, item_id: Tensor) -> Tensor:
        angle = item_id // 2 * (math.pi / self.num_items)
        return torch.stack([angle.cos(), angle.sin()], -1)


def test_near_duplicates_give_way_to_what_is_earlier() -> None:
    config = config_of(k=40, recent=0)
    config.duplicate_cosine = 0.99999
    retrieval = Paired(60)
    plain = CandidatePool(config_of(k=40, recent=0), 60, retrieval, torch.tensor([0, 1]))
    pool = CandidatePool(config, 60, retrieval, torch.tensor([0, 1]))
    before, after = (p.candidates(state_of(50), streams_of(50)) for p in (plain, pool))
    assert int((before.mask & ~after.mask).sum()) > 50
    for b in range(50):
        stays: list[int] = []
        for item in before.item_id[b][before.mask[b]].tolist():
            stays += [item] if item // 2 not in [other // 2 for other in stays] else []
        assert after.item_id[b][after.mask[b]].tolist() == stays
    assert not after.item_id[~after.mask].any()
    assert not after.log_propensity[~after.mask].any()


def test_without_vectors_no_duplicates_are_known() -> None:
    config = config_of()
    config.duplicate_cosine = 0.5
    for retrieval in (None, NearZero(1000)):
        got, plain = (
            CandidatePool(c, 1000, retrieval).candidates(state_of(20), streams_of(20))
            for c in (config, config_of())
        )
        assert torch.equal(got.mask, plain.mask)


def test_pool_is_never_empty() -> None:
    got = CandidatePool(config_of(), 3).candidates(state_of(2, history=[0, 1, 2]), streams_of(2))
    assert got.mask.sum(1).tolist() == [3, 3]


@pytest.mark.parametrize(("near", "fresh"), [(0, 0), (2, 2), (0, 3)])
def test_log_propensity_is_the_frequency_of_being_in_the_pool(near: int, fresh: int) -> None:
    batch, num_items = 40_000, 12
    pool = CandidatePool(
        config_of(k=7, near=near, fresh=fresh), num_items, NearZero(num_items), torch.tensor([1, 9])
    )
    got = pool.candidates(state_of(batch), streams_of(batch))
    for item in range(num_items):
        inside = got.mask & (got.item_id == item)
        stated = got.log_propensity[inside].exp()
        assert stated.max() - stated.min() < 1e-6
        share = float(inside.any(1).float().mean())
        expected = float(stated[0])
        sigma = math.sqrt(expected * (1 - expected) / batch)
        assert abs(share - expected) < 4 * sigma + 1e-6


def test_same_streams_same_pool_and_other_steps_other_pools() -> None:
    pool = CandidatePool(config_of(), 10_000, NearZero(10_000))
    one = pool.candidates(state_of(50), streams_of(50))
    again = pool.candidates(state_of(50), streams_of(50))
    assert torch.equal(one.item_id, again.item_id)
    part = pool.candidates(state_of(50)[:7], SessionStreams(streams_of(50).seeds[:7]))
    assert torch.equal(one.item_id[:7], part.item_id), "a session does not see its batch"
    later = pool.candidates(state_of(50, step=1), streams_of(50))
    other = CandidatePool(config_of(), 10_000, NearZero(10_000), lane=5)
    for changed in (later, other.candidates(state_of(50), streams_of(50))):
        assert (changed.item_id[:, 3:] != one.item_id[:, 3:]).float().mean() > 0.9


def test_draws_reach_every_part_of_a_catalogue_of_1e8() -> None:
    """One float32 uniform has 2^23 values and would reach 8 % of such a catalogue."""
    num_items = 10**8
    pairs = streams_of(4096).uniform(torch.zeros(4096, dtype=torch.int64), 64)
    item = uniform_items(fine_uniforms(pairs), num_items).flatten()
    assert item.min() >= 0
    assert item.max() < num_items
    spacing = num_items / 2**23
    offset = (item % spacing) / spacing
    assert abs(float(offset.double().mean()) - 0.5) < 0.05
    last_bits = torch.bincount(item % 8, minlength=8)
    assert last_bits.min() > 0.9 * len(item) / 8
    assert item.unique().numel() > 0.998 * len(item)


def test_uniform_items_stay_inside_at_the_ends() -> None:
    ends = fine_uniforms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    assert uniform_items(ends, 7).tolist() == [[0, 6]]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CandidatePool(config_of(), 0), ConfigError, "has no items"),
        (lambda: CandidatePool(config_of(), 9, NearZero(8)), ConfigError, "another catalogue"),
        (
            lambda: CandidatePool(config_of(), 9, None, torch.tensor([3, 9])),
            SchemaError,
            "outside the catalogue; got: 3 .. 9; expected: 0 .. 8",
        ),
        (lambda: CandidatesConfig(num_candidates=0), ConfigError, "needs a slot"),
        (lambda: CandidatesConfig(num_candidates=8), ConfigError, "num_nearest=32"),
        (lambda: CandidatesConfig(exclude_recent=-1), ConfigError, "exclude_recent=-1"),
        (lambda: CandidatesConfig(duplicate_cosine=1.5), ConfigError, "duplicate_cosine.*1.5"),
    ],
)
def test_bad_settings_are_named(make, error: type[RecomindError], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
