"""Near-duplicates: a slow loop says what stays; hashing may only miss, and as often as stated."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from recomind.candidates import NearDuplicates, miss_probability
from recomind.candidates.duplicates import Buckets
from recomind.errors import ConfigError, SchemaError
from recomind.streams import make_generator

few = settings(deadline=None, max_examples=60, derandomize=True)
HASHED, COMPARED = 0, 10**6  # all_pairs_up_to


def slow_keep(vectors_BKD: Tensor, mask_BK: Tensor, cosine: float) -> Tensor:
    """The obvious loop over pools, slots and what has stayed."""
    unit_BKD = functional.normalize(vectors_BKD, dim=2)
    keep_BK = torch.zeros_like(mask_BK)
    for b, unit_KD in enumerate(unit_BKD):
        stayed: list[Tensor] = []
        for k, vector_D in enumerate(unit_KD):
            if mask_BK[b, k] and not any(float(vector_D @ v) >= cosine for v in stayed):
                stayed.append(vector_D)
                keep_BK[b, k] = True
    return keep_BK


def clustered(num_pools: int, num_slots: int, num_groups: int, noise: float, seed: int) -> Tensor:
    """Vectors [B, K, 8] around a few centres, of different lengths."""
    generator = make_generator(seed)
    centre = functional.normalize(torch.randn(num_groups, 8, generator=generator), dim=1)
    group = torch.randint(num_groups, (num_pools, num_slots), generator=generator)
    vectors = centre[group] + noise * torch.randn(num_pools, num_slots, 8, generator=generator)
    return vectors * (0.5 + torch.rand(num_pools, num_slots, 1, generator=generator))


def filter_of(cosine: float, up_to: int, tables: int = 20, bits: int = 14) -> NearDuplicates:
    return NearDuplicates(
        cosine, 8, make_generator(7), num_bits=bits, num_tables=tables, all_pairs_up_to=up_to
    )


@few
@given(
    st.integers(1, 30),
    st.integers(1, 5),
    st.floats(0.0, 0.3),
    st.sampled_from([0.8, 0.95]),
    st.integers(0, 10_000),
    st.sampled_from([HASHED, COMPARED]),
)
def test_equals_the_slow_loop(
    num_slots: int, groups: int, noise: float, cosine: float, seed: int, up_to: int
) -> None:
    vectors = clustered(3, num_slots, groups, noise, seed)
    mask = torch.rand(3, num_slots, generator=make_generator(seed)) < 0.8
    unit = functional.normalize(vectors, dim=2)
    margin = ((unit @ unit.transpose(1, 2)) - cosine).abs().min()
    if margin < 1e-5:
        return  # rounding decides
    # Two bits and many tables: a pair at .8 is missed once in 10^29.
    got = filter_of(cosine, up_to, tables=80, bits=2).keep(vectors, mask)
    assert torch.equal(got, slow_keep(vectors, mask, cosine))


def test_both_ways_find_pairs_without_a_fallback() -> None:
    """Spread vectors with a few copies: buckets are small, so hashing is really used."""
    vectors = torch.randn(2, 300, 8, generator=make_generator(1))
    vectors[:, 200:] = 2.0 * vectors[:, :100]
    mask = torch.ones(2, 300, dtype=torch.bool)
    hashed = filter_of(0.9999, HASHED)
    codes = hashed._codes(functional.normalize(vectors, dim=2))
    pairs = sum(Buckets(code, mask).num_pairs for code in codes.unbind(2))
    assert pairs < 2 * 300 * 299 / 2
    expected = slow_keep(vectors, mask, 0.9999)
    assert torch.equal(hashed.keep(vectors, mask), expected)
    assert torch.equal(filter_of(0.9999, COMPARED).keep(vectors, mask), expected)
    assert not expected[:, 200:].any()


def test_a_chain_goes_by_what_stays() -> None:
    """a ~ b ~ c ~ d in a row, 20 degrees apart: b goes, c stays, d goes."""
    angle = torch.deg2rad(torch.tensor([0.0, 20, 40, 60]))
    vectors = torch.zeros(1, 4, 8)
    vectors[0, :, 0], vectors[0, :, 1] = angle.cos(), angle.sin()
    mask = torch.ones(1, 4, dtype=torch.bool)
    for up_to in (HASHED, COMPARED):
        got = filter_of(0.9, up_to, tables=60, bits=2).keep(vectors, mask)
        assert got.tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("up_to", [HASHED, COMPARED])
def test_copies_leave_the_first_of_the_mask_whatever_is_in_padding(up_to: int) -> None:
    vectors = torch.ones(2, 500, 8)
    vectors[:, :3] = torch.nan
    mask = torch.ones(2, 500, dtype=torch.bool)
    mask[:, :3] = False
    mask[1] = False
    kept = filter_of(0.99, up_to).keep(vectors, mask)
    assert kept[0].nonzero()[:, 0].tolist() == [3]
    assert not kept[1].any()


def test_buckets_list_every_pair_once_and_the_earlier_slot_first() -> None:
    code = torch.tensor([[3, 1, 3, 3, 1, 2], [0, 0, 0, 5, 0, 0]])
    mask = torch.tensor([[True] * 6, [True, False, True, True, True, False]])
    pairs = {(a, b) for a, b in Buckets(code, mask).pairs().T.tolist()}
    assert pairs == {(0, 2), (0, 3), (2, 3), (1, 4), (6, 8), (6, 10), (8, 10)}


@pytest.mark.parametrize(("bits", "tables", "degrees"), [(6, 4, 30.0), (14, 20, 18.0)])
def test_pairs_are_missed_as_often_as_the_formula_says(
    bits: int, tables: int, degrees: float
) -> None:
    """One pair a pool, other planes for each of 40 filters of 500 pools."""
    angle, num, missed = math.radians(degrees), 500, 0
    for seed in range(40):
        generator = make_generator(seed)
        frame = torch.linalg.qr(torch.randn(num, 16, 2, generator=generator)).Q
        one = frame[:, :, 0]
        other = math.cos(angle) * one + math.sin(angle) * frame[:, :, 1]
        found = NearDuplicates(0.9, 16, generator, num_bits=bits, num_tables=tables)
        codes = found._codes(torch.stack([one, other], 1))
        missed += int((codes[:, 0] != codes[:, 1]).all(1).sum())
    expected = miss_probability(math.cos(angle), bits, tables)
    sigma = math.sqrt(expected * (1 - expected) / (40 * num))
    # Pools of one filter share its planes: their misses are not independent.
    assert abs(missed / (40 * num) - expected) < 6 * sigma + 0.15 * expected


def test_equal_vectors_are_never_missed() -> None:
    assert miss_probability(1.0, 14, 20) == 0.0
    assert miss_probability(0.0, 14, 1) == pytest.approx(1 - 2.0**-14)


MASK = torch.ones(1, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (torch.ones(1, 3, 7), r"vectors of a pool; got: \(1, 3, 7\); expected: .*\(1, 3, 8\)"),
        (torch.ones(1, 4, 8), "vectors of a pool"),
        (torch.zeros(1, 3, 8), "zero or not finite; got: 3 of 3"),
        (torch.full((1, 3, 8), torch.nan), "zero or not finite"),
        (torch.full((1, 3, 8), torch.inf), "zero or not finite"),
    ],
)
def test_bad_vectors_are_named(vectors: Tensor, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        filter_of(0.9, COMPARED).keep(vectors, MASK)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: filter_of(0.0, 0), r"in \(0, 1\]"),
        (lambda: filter_of(1.1, 0), r"in \(0, 1\]"),
        (lambda: filter_of(0.9, 0, bits=63), "num_bits=63"),
        (lambda: filter_of(0.9, 0, tables=0), "num_tables=0"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
