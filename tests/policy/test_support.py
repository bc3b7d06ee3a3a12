"""Who may be chosen: never nobody, never more under a stricter bound, and what the formula says."""

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


@given(candidates, shares, shares)
@settings(max_examples=200, deadline=None)
def test_the_best_by_utility_is_always_allowed_and_padding_never(found, rho, tau):
    utility, density, mask = tensors_of(found)
    allowed = support_mask(utility, mask, rho, density, tau)
    assert not bool((allowed & ~mask).any())
    assert bool(allowed[0, utility.masked_fill(~mask, -torch.inf).argmax()])


@given(candidates, shares, shares, shares)
@settings(max_examples=200, deadline=None)
def test_a_larger_tau_never_allows_more(found, rho, one, two):
    utility, density, mask = tensors_of(found)
    loose, strict = (support_mask(utility, mask, rho, density, t) for t in sorted((one, two)))
    assert bool((strict <= loose).all())


@given(candidates, shares)
@settings(max_examples=100, deadline=None)
def test_without_tau_it_is_the_utility_alone(found, rho):
    utility, density, mask = tensors_of(found)
    assert torch.equal(
        support_mask(utility, mask, rho, density, 0.0), support_mask(utility, mask, rho)
    )
    assert torch.equal(support_mask(utility, mask, 0.0, density, 0.0), mask)


@given(candidates, shares, st.floats(0.01, 1.0), numbers)
@settings(max_examples=200, deadline=None)
def test_it_is_what_the_definition_says(found, rho, tau, shift):
    utility, density, mask = tensors_of(found)
    allowed = support_mask(utility, mask, rho, density, tau)[0].tolist()
    by_utility = support_mask(utility, mask, rho)[0].tolist()
    rows = list(zip(utility[0].tolist(), density[0].tolist(), mask[0].tolist(), strict=True))
    there = [row for row in rows if row[2]]
    best, densest = max(u for u, _, _ in there), max(d for _, d, _ in there)
    for (u, d, m), got, by_u in zip(rows, allowed, by_utility, strict=True):
        distance = math.exp(d - densest) - tau
        if m and u != best and abs(distance) > 1e-5:  # away from rounding
            assert got == (by_u and distance > 0)
    moved = support_mask(utility, mask, rho, density + shift, tau)[0].tolist()
    for (_, d, m), one, other in zip(rows, allowed, moved, strict=True):
        if m and abs(math.exp(d - densest) - tau) > 1e-4:
            assert one == other  # a number a state says nothing


def test_by_hand():
    utility = torch.tensor([[1.0, 0.9, 0.8, 0.2, 5.0]])
    log_density = torch.tensor([[0.01, 0.2, 0.04, 0.5, 9.0]]).log()
    mask = torch.tensor([[True, True, True, True, False]])
    rows = {0.05: [1, 1, 1, 1, 0], 0.1: [1, 1, 0, 1, 0], 0.5: [1, 0, 0, 1, 0], 1.0: [1, 0, 0, 1, 0]}
    for tau, expected in rows.items():
        assert support_mask(utility, mask, 0.0, log_density, tau).int().tolist() == [expected]
    assert support_mask(utility, mask, 0.7, log_density, 0.1).int().tolist() == [[1, 1, 0, 0, 0]]
    # The densest is not good enough, and what is good enough is not dense: the ranker's choice.
    assert support_mask(utility, mask, 0.7, log_density, 0.9).int().tolist() == [[1, 0, 0, 0, 0]]


@pytest.mark.parametrize("tau", [-0.1, 1.1, math.nan])
def test_tau_is_a_share(tau):
    with pytest.raises(ConfigError, match=r"policy.support_density .* expected: in \[0, 1\]"):
        PolicyConfig(support_density=tau)
