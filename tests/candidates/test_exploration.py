"""Candidate-subset exploration: propensities are exact, whatever the pool looks like."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recomind.candidates.exploration import (
    GreedyChoice,
    SubsetExploration,
    best_slot,
    log_propensity_of_rank,
    rank_in_subset,
    rank_slots,
)
from recomind.errors import ConfigError, SchemaError
from recomind.streams import SessionStreams, draw_seeds, make_generator

few = settings(deadline=None, max_examples=60, derandomize=True)


def uniforms(num: int, seed: int = 0) -> Tensor:
    """[num, 4] as a policy is given them."""
    seeds = draw_seeds(num, make_generator(seed))
    return SessionStreams(seeds).uniform(torch.zeros(num, dtype=torch.int64), 4, lane=2)


def brute_force(num: int, size: int, epsilon: float) -> list[float]:
    """Probability of each rank by listing every subset."""
    size = min(size, num)
    subsets = list(itertools.combinations(range(1, num + 1), size))
    share = [sum(min(s) == rank for s in subsets) / len(subsets) for rank in range(1, num + 1)]
    return [(1 - epsilon) * (rank == 0) + epsilon * p for rank, p in enumerate(share)]


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("num", range(1, 8))
def test_propensities_equal_those_of_all_subsets(num: int, epsilon: float) -> None:
    for size in range(1, 9):
        got = log_propensity_of_rank(
            torch.arange(1, num + 1), torch.tensor(num), size, epsilon
        ).exp()
        torch.testing.assert_close(got, torch.tensor(brute_force(num, size, epsilon)))


@few
@given(st.integers(1, 100_000), st.integers(1, 100_000), st.floats(0, 1))
def test_propensities_sum_to_one(num: int, size: int, epsilon: float) -> None:
    rank = torch.arange(1, num + 1)
    total = log_propensity_of_rank(rank, torch.tensor(num), size, epsilon).double().exp().sum()
    assert abs(float(total) - 1) < 1e-6


def test_propensity_is_exact_in_a_pool_of_100_000() -> None:
    got = log_propensity_of_rank(torch.tensor([2, 90_000]), torch.tensor(100_000), 20, 0.5)
    for rank, value in zip((2, 90_000), got.tolist(), strict=True):
        exact = math.comb(100_000 - rank, 19) / math.comb(100_000, 20)
        assert value == pytest.approx(math.log(0.5 * exact), rel=1e-6)


def test_ranks_out_of_reach_have_no_propensity() -> None:
    got = log_propensity_of_rank(torch.tensor([0, 5, 6]), torch.tensor(5), 2, 1.0)
    assert got.tolist() == [-math.inf] * 3


@pytest.mark.parametrize(("num", "size", "epsilon"), [(12, 4, 0.5), (12, 1, 1.0), (6, 3, 0.3)])
def test_frequencies_agree_with_propensities(num: int, size: int, epsilon: float) -> None:
    draws = 200_000
    scores = torch.randn(1, num, generator=make_generator(1))
    slot, log_propensity = SubsetExploration(epsilon, size).choose(
        scores.expand(draws, -1), torch.ones(draws, num, dtype=torch.bool), uniforms(draws)
    )
    order = scores[0].argsort(descending=True)
    expected = torch.tensor(brute_force(num, size, epsilon))
    count = torch.bincount(slot, minlength=num)[order].double()
    possible = expected > 0
    assert not count[~possible].any()
    chi2 = ((count - draws * expected) ** 2 / (draws * expected))[possible].sum()
    freedom = int(possible.sum()) - 1
    assert chi2 < freedom + 4 * math.sqrt(2 * freedom)
    by_slot = torch.empty(num).scatter(0, order, expected.float())
    torch.testing.assert_close(log_propensity.exp(), by_slot[slot])


def test_frequencies_agree_in_the_tail_of_a_large_pool() -> None:
    """23 bits of one uniform could not resolve the ranks of 100,000 candidates."""
    draws, num, size = 100_000, 100_000, 3
    pairs = uniforms(draws).double()
    fine = pairs[:, 1] + (pairs[:, 2] - 0.5) * 2.0**-23
    rank = rank_in_subset(fine, torch.full((draws,), num), size)
    for at in (1000, 10_000, 50_000, 90_000):
        beyond = (1 - at / num) ** size
        sigma = math.sqrt(beyond * (1 - beyond) / draws)
        assert abs(float((rank > at).double().mean()) - beyond) < 4 * sigma + 1e-4


def test_inverse_agrees_with_a_walk_over_the_distribution() -> None:
    num, size = 9, 3
    cumulative = list(itertools.accumulate(brute_force(num, size, 1.0)))
    for u in torch.linspace(0.001, 0.999, 333).tolist():
        # The survival function is inverted, so small uniforms are the far ranks.
        walked = next(r for r, c in enumerate(cumulative, 1) if 1 - c < u)
        got = rank_in_subset(torch.tensor([u]), torch.tensor([num]), size)
        assert got.tolist() == [walked]


def test_ranks_of_a_batch_are_those_of_its_rows() -> None:
    num, uniform = torch.arange(1, 41), torch.rand(40, dtype=torch.float64)
    got = rank_in_subset(uniform, num, 20)
    alone = [rank_in_subset(uniform[[row]], num[[row]], 20) for row in range(40)]
    assert torch.equal(got, torch.cat(alone))
    assert (got[:20] == 1).all(), "the best of all is in a subset of all"
    assert not (got[20:] == 1).all()


def test_whole_pool_as_subset_is_greedy_and_certain() -> None:
    scores, allowed = torch.randn(500, 7), torch.rand(500, 7) < 0.6
    allowed[:, 3] = True
    slot, log_propensity = SubsetExploration(1.0, 7).choose(scores, allowed, uniforms(500))
    assert torch.equal(slot, scores.masked_fill(~allowed, -99.0).argmax(1))
    assert log_propensity.abs().max() < 1e-6


@pytest.mark.parametrize("chooser", [GreedyChoice(), SubsetExploration(0.0, 20)])
def test_without_epsilon_the_best_is_certain(chooser: SubsetExploration) -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0]])
    allowed = torch.tensor([[True, False, True]])
    slot, log_propensity = chooser.choose(scores, allowed, uniforms(1))
    assert slot.tolist() == [2]
    assert log_propensity.tolist() == [0.0]
    assert log_propensity.dtype == torch.float32


@st.composite
def pools(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Scores with many ties, allowed slots with at least one, distinct item ids, all [8, K]."""
    num = draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    scores = torch.randint(-2, 3, (8, num), generator=generator).float()
    allowed = torch.rand(8, num, generator=generator) < draw(st.floats(0.1, 1))
    allowed[:, draw(st.integers(0, num - 1))] = True
    item_id = torch.stack([torch.randperm(50, generator=generator)[:num] for _ in range(8)])
    return scores, allowed, item_id


@few
@given(pools(), st.integers(1, 14), st.floats(0, 1), st.integers(0, 1000))
def test_never_a_slot_that_is_not_allowed(
    pool: tuple[Tensor, Tensor, Tensor], size: int, epsilon: float, seed: int
) -> None:
    scores, allowed, item_id = pool
    slot, log_propensity = SubsetExploration(epsilon, size).choose(
        scores.masked_fill(~allowed, torch.nan), allowed, uniforms(8, seed), item_id
    )
    assert allowed.gather(1, slot[:, None]).all()
    assert (log_propensity > -math.inf).all()
    assert (log_propensity <= 0).all()


@few
@given(pools(), st.integers(1, 14), st.floats(0, 1), st.integers(0, 1000))
def test_order_of_the_pool_does_not_matter(
    pool: tuple[Tensor, Tensor, Tensor], size: int, epsilon: float, seed: int
) -> None:
    scores, allowed, item_id = pool
    chooser, draws = SubsetExploration(epsilon, size), uniforms(8, seed)
    slot, log_propensity = chooser.choose(scores, allowed, draws, item_id)
    mixed = torch.randperm(scores.shape[1], generator=torch.Generator().manual_seed(seed))
    slot_2, log_propensity_2 = chooser.choose(
        scores[:, mixed], allowed[:, mixed], draws, item_id[:, mixed]
    )
    chosen = item_id.gather(1, slot[:, None])
    assert torch.equal(chosen, item_id[:, mixed].gather(1, slot_2[:, None]))
    assert torch.equal(log_propensity, log_propensity_2)


@few
@given(pools(), st.booleans())
def test_ranking_is_a_plain_sort(pool: tuple[Tensor, Tensor, Tensor], with_id: bool) -> None:
    scores, allowed, item_id = pool
    ids = item_id if with_id else None
    slots = rank_slots(scores, allowed, ids)
    for b in range(len(scores)):
        tie = item_id[b].tolist() if with_id else list(range(scores.shape[1]))
        open_slots = [k for k in range(scores.shape[1]) if allowed[b, k]]
        expected = sorted(open_slots, key=lambda k: (-float(scores[b, k]), tie[k]))
        assert slots[b, : len(expected)].tolist() == expected
    assert torch.equal(best_slot(scores, allowed, ids), slots[:, 0])


def test_minus_infinity_still_beats_a_slot_that_is_not_allowed() -> None:
    scores = torch.tensor([[5.0, -math.inf, 7.0]])
    allowed = torch.tensor([[False, True, False]])
    slot, _ = SubsetExploration(1.0, 1).choose(scores, allowed, uniforms(1))
    assert slot.tolist() == [1]


def test_no_decisions_are_no_error() -> None:
    slot, log_propensity = SubsetExploration(0.5, 2).choose(
        torch.zeros(0, 4), torch.zeros(0, 4, dtype=torch.bool), torch.zeros(0, 4)
    )
    assert slot.shape == log_propensity.shape == (0,)


SCORES, ALLOWED = torch.zeros(3, 4), torch.ones(3, 4, dtype=torch.bool)
NAN_ROW = SCORES.clone().index_put((torch.tensor([1]), torch.tensor([2])), torch.tensor(torch.nan))
CLOSED_ROW = ALLOWED & (torch.arange(3) != 2)[:, None]


@pytest.mark.parametrize(
    ("scores", "allowed", "draws", "item_id", "message"),
    [
        (NAN_ROW, ALLOWED, torch.rand(3, 4), None, "NaN; got: 1 of 3 rows, the first is row 1"),
        (SCORES, CLOSED_ROW, torch.rand(3, 4), None, "no candidate is allowed; got: 1 of 3 rows"),
        (SCORES, ALLOWED[:, :3], torch.rand(3, 4), None, "one shape"),
        (SCORES, ALLOWED, torch.rand(3, 3), None, "the uniforms have another shape"),
        (SCORES, ALLOWED, torch.rand(3, 4), torch.zeros(3, 5).long(), "one item id for each slot"),
    ],
)
def test_bad_input_is_named(
    scores: Tensor, allowed: Tensor, draws: Tensor, item_id: Tensor | None, message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        SubsetExploration(0.5, 2).choose(scores, allowed, draws, item_id)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SubsetExploration(1.5, 2),
        lambda: SubsetExploration(math.nan, 2),
        lambda: SubsetExploration(0.5, 0),
        lambda: log_propensity_of_rank(torch.tensor(1), torch.tensor(2), 0, 0.1),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()
