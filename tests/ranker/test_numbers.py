"""Numbers become steps of a line, as a loop over bins would make them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recomind.errors import SchemaError
from recomind.ranker.numbers import PiecewiseLinear
from recomind.streams import make_generator

SPAN = 4.0


def fitted(values, num_bins=4):
    numbers = PiecewiseLinear(values.shape[1], num_bins)
    numbers.fit(values)
    return numbers


def normal(*shape, seed=0):
    return torch.randn(shape, generator=make_generator(seed))


def encoded_by_loop(train, values, num_bins):
    """Lines [R, F] and centred steps [R, F, Q] from quantiles of `train`, a number at a time."""
    train, values = train.double().numpy(), values.double().numpy()
    line, steps = np.zeros(values.shape), np.zeros((*values.shape, num_bins))
    for f in range(values.shape[1]):
        edges = [np.quantile(train[:, f], q / num_bins) for q in range(num_bins + 1)]
        for r, x in enumerate(values[:, f]):
            line[r, f] = min(max((x - train[:, f].mean()) / train[:, f].std(), -SPAN), SPAN)
            for q, (low, high) in enumerate(itertools.pairwise(edges)):
                filled = [min(max((v - low) / (high - low), 0.0), 1.0) for v in (x, *train[:, f])]
                steps[r, f, q] = filled[0] - sum(filled[1:]) / len(train)
    return np.concatenate([line, steps.reshape(len(values), -1)], axis=1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), num_bins=st.integers(1, 9), num=st.integers(2, 40))
def test_it_equals_a_loop(seed, num_bins, num):
    train, values = 3 * normal(num, 2, seed=seed) + 1, 9 * normal(7, 2, seed=seed + 1)
    numbers = fitted(train, num_bins)
    expected = torch.from_numpy(encoded_by_loop(train, values, num_bins)).float()
    assert torch.allclose(numbers(values), expected, atol=1e-3)
    assert numbers.width == expected.shape[1] == 2 * (num_bins + 1)


def test_leading_shapes_are_kept():
    numbers, values = fitted(normal(50, 3)), normal(5, 2, 3)
    assert torch.equal(numbers(values)[3, 1], numbers(values[3, 1]))
    assert numbers(values).shape == (5, 2, numbers.width)


def test_beyond_training_nothing_moves():
    numbers = fitted(normal(500, 1))
    at_1e3, at_1e6 = numbers(torch.tensor([[1e3], [1e6]]))
    assert torch.equal(at_1e3, at_1e6)
    assert uncentred(numbers, at_1e3) == [SPAN, 1, 1, 1, 1]
    assert uncentred(numbers, numbers(torch.tensor([[-1e6]]))[0]) == [-SPAN, 0, 0, 0, 0]


def uncentred(numbers, encoded):
    """One row of one feature, its steps between 0 and 1 again."""
    return [float(encoded[0]), *(encoded[1:] + numbers.step_mean[0]).round(decimals=5).tolist()]


def test_steps_are_centred_at_their_training_means():
    train = 3 * normal(9000, 2).exp()
    assert float(fitted(train)(train)[:, 2:].mean(0).abs().max()) < 1e-5


def test_a_feature_of_one_value_says_whether_it_is_exceeded():
    numbers = fitted(torch.full((30, 1), 0.3))
    below, equal, above = numbers(torch.tensor([[0.2], [0.3], [0.4]]))
    assert equal.tolist() == [0.0] * 5
    assert below.tolist() == [-SPAN, 0, 0, 0, 0]
    assert above.tolist() == [SPAN, 1, 1, 1, 1]


def test_a_feature_of_two_values_is_told_apart_in_every_bin():
    numbers = fitted(torch.tensor([0.0, 1.0]).repeat(10)[:, None])
    zero, one = numbers(torch.tensor([[0.0], [1.0]]))
    assert uncentred(numbers, zero)[1:] == [0.0] * 4
    assert uncentred(numbers, one)[1:] == [
        1.0,
        1.0,
        1.0,
        0.0,
    ]  # bins [0, 0], [0, .5], [.5, 1], [1, 1]
    assert float(one[0] - zero[0]) == pytest.approx(2.0, abs=1e-3)


def test_encodings_never_fall():
    train = torch.cat([torch.zeros(40), normal(60).abs(), torch.full((20,), 2.0)])[:, None]
    values = torch.linspace(-3, 9, 400)[:, None]
    assert bool((fitted(train, 7)(values).diff(dim=0) >= 0).all())


def test_no_features():
    numbers = fitted(torch.zeros(10, 0))
    assert numbers.width == 0
    assert numbers(torch.zeros(6, 2, 0)).shape == (6, 2, 0)


def test_before_they_are_fitted_bins_span_standardised_numbers():
    numbers = PiecewiseLinear(1, 8)
    assert numbers(torch.tensor([[0.5]]))[0].tolist() == [0.5, 1, 1, 1, 1, 0.5, 0, 0, 0]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused(bad):
    values = normal(10, 2)
    values[3, 1] = bad
    with pytest.raises(SchemaError, match="must be finite"):
        fitted(values)


def test_no_rows_are_refused():
    with pytest.raises(SchemaError, match="must be finite rows"):
        fitted(torch.zeros(0, 2))
