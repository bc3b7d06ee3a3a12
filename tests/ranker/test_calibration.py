"""Calibration curves."""

from __future__ import annotations

import pytest
import torch

from recomind.errors import SchemaError
from recomind.ranker import calibration_curve
from recomind.streams import make_generator


def test_known_curve():
    predicted = torch.tensor([0.9, 0.1, 0.1, 0.9])
    observed = torch.tensor([True, False, True, True])
    curve = calibration_curve(predicted, observed, num_bins=2)
    assert [b["n"] for b in curve["bins"]] == [2, 2]
    assert [b["observed"] for b in curve["bins"]] == [0.5, 1.0]
    assert [b["predicted"] for b in curve["bins"]] == pytest.approx([0.1, 0.9])
    assert curve["ece"] == pytest.approx((0.4 + 0.1) / 2)


def test_true_probabilities_are_calibrated_and_squared_ones_are_not():
    generator = make_generator(0)
    truth = torch.rand(20_000, generator=generator)
    observed = torch.rand(20_000, generator=generator) < truth
    assert calibration_curve(truth, observed)["ece"] < 0.02
    assert calibration_curve(truth**2, observed)["ece"] > 0.1


def test_fewer_events_than_bins():
    curve = calibration_curve(torch.tensor([0.2, 0.4]), torch.tensor([False, True]), num_bins=10)
    assert [b["n"] for b in curve["bins"]] == [1, 1]


@pytest.mark.parametrize(
    ("predicted", "observed", "message"),
    [
        (torch.zeros(0), torch.zeros(0), "n >= 1"),
        (torch.zeros(3), torch.zeros(2), "both"),
        (torch.tensor([1.2]), torch.ones(1), "not probabilities"),
        (torch.tensor([torch.nan]), torch.ones(1), "not probabilities"),
    ],
)
def test_bad_predictions(predicted, observed, message):
    with pytest.raises(SchemaError, match=message):
        calibration_curve(predicted, observed)
