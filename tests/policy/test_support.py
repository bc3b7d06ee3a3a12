"""Who may be chosen: never nobody, nobody outside the density, and what the formula says."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recomind.errors import ConfigError
from recomind.policy import PolicyConfig, support_mask

shares = st.floats(0.0, 1.0)
numbers = st.floats(-3.0, 3.0, width=32)
candidates = st.lists(st.tuples(numbers, numbers, st.booleans()), min_size=1, max_size=12)


def tensors_of(found) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Utility, log-density and mask [1, K]; the first candidate is there."""
    utility, density, mask = (torch.tensor([column]) for column in zip(*found, strict=True))
    mask[0, 0] = True
    return utility, density, mask


@given(candidates, shares, shares, st.booleans())
@settings(max_examples=200, deadline=None)
def test_somebody_is_always_allowed_and_padding_never(found, rho, tau, keeps):
    utility, density, mask = tensors_of(found)
    allowed = support_mask(utility, mask, rho, density, tau, keeps_ranker=keeps)
    assert bool(allowed.any())
    assert not bool((allowed & ~mask).any())
    if keeps:
        assert bool(allowed[0, utility.masked_fill(~mask, -torch.inf).argmax()])


@given(candidates, shares, shares)
@settings(max_examples=200, deadline=None)
def test_the_best_of_the_dense_is_allowed_whatever_else_the_pool_holds(found, rho, tau):
    utility, density, mask = tensors_of(found)
    dense = support_mask(utility, mask, 0.0, density, tau)
    allowed = support_mask(utility, mask, rho, density, tau)
    assert bool((allowed <= dense).all())
    assert bool(allowed[0, utility.masked_fill(~dense, -torch.inf).argmax()])
    assert torch.equal(allowed, support_mask(utility, dense, rho))
    # Whom the logs do not cover sets no bound, however good the ranker thinks it is.
    louder = torch.where(dense, utility, utility + 100.0)
    assert torch.equal(allowed, support_mask(louder, mask, rho, density, tau))


@given(candidates, shares, shares, shares)
@settings(max_examples=200, deadline=None)
def test_a_larger_tau_never_covers_more(found, rho, one, two):
    utility, density, mask = tensors_of(found)
    taus = sorted((one, two))
    loose, strict = (support_mask(utility, mask, 0.0, density, t) for t in taus)
    assert bool((strict <= loose).all())
    loose, strict = (support_mask(utility, mask, rho, density, t, keeps_ranker=True) for t in taus)
    assert bool((strict <= loose).all())


@given(candidates, shares)
@settings(max_examples=100, deadline=None)
def test_without_tau_it_is_the_utility_alone(found, rho):
    utility, density, mask = tensors_of(found)
    assert torch.equal(
        support_mask(utility, mask, rho, density, 0.0), support_mask(utility, mask, rho)
    )
    assert torch.equal(support_mask(utility, mask, 0.0, density, 0.0), mask)


@given(candidates, st.floats(0.01, 1.0), numbers)
@settings(max_examples=200, deadline=None)
def test_it_is_what_the_definition_says(found, tau, shift):
    utility, density, mask = tensors_of(found)
    allowed = support_mask(utility, mask, 0.0, density, tau)[0].tolist()
    rows = list(zip(density[0].tolist(), mask[0].tolist(), strict=True))
    densest = max(d for d, there in rows if there)
    moved = support_mask(utility, mask, 0.0, density + shift, tau)[0].tolist()
    for (d, there), got, other in zip(rows, allowed, moved, strict=True):
        distance = math.exp(d - densest) - tau
        if abs(distance) > 1e-4:  # away from rounding
            assert got == (there and distance > 0)
            assert got == other  # a number a state says nothing


def test_by_hand():
    utility = torch.tensor([[1.0, 0.9, 0.8, 0.2, 5.0]])
    log_density = torch.tensor([[0.01, 0.2, 0.04, 0.5, 9.0]]).log()
    mask = torch.tensor([[True, True, True, True, False]])
    rows = {0.05: [0, 1, 1, 1, 0], 0.1: [0, 1, 0, 1, 0], 0.5: [0, 0, 0, 1, 0], 1.0: [0, 0, 0, 1, 0]}
    for tau, expected in rows.items():
        assert support_mask(utility, mask, 0.0, log_density, tau).int().tolist() == [expected]
    assert support_mask(utility, mask, 0.7, log_density, 0.1).int().tolist() == [[0, 1, 0, 0, 0]]
    # The best of the pool is not dense, and none of the others good enough beside it.
    assert support_mask(utility, mask, 0.7, log_density, 0.9).int().tolist() == [[0, 0, 0, 1, 0]]


def test_by_hand_where_the_rankers_choice_is_kept():
    utility = torch.tensor([[1.0, 0.9, 0.8, 0.2, 5.0]])
    log_density = torch.tensor([[0.01, 0.2, 0.04, 0.5, 9.0]]).log()
    mask = torch.tensor([[True, True, True, True, False]])
    rows = {(0.0, 0.1): [1, 1, 0, 1, 0], (0.7, 0.1): [1, 1, 0, 0, 0], (0.7, 0.9): [1, 0, 0, 0, 0]}
    for (rho, tau), expected in rows.items():
        allowed = support_mask(utility, mask, rho, log_density, tau, keeps_ranker=True)
        assert allowed.int().tolist() == [expected]


@pytest.mark.parametrize("tau", [-0.1, 1.1, math.nan])
def test_tau_is_a_share(tau):
    with pytest.raises(ConfigError, match=r"policy.support_density .* expected: in \[0, 1\]"):
        PolicyConfig(support_density=tau)
