"""Calibration: the map that is fitted and which one it is, and the curve that judges it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recomind.artifacts import Manifest
from recomind.errors import SchemaError
from recomind.ranker import (
    Calibration,
    calibrate_on,
    calibration_curve,
    load_rankers,
    log_loss,
    predict,
    save_rankers,
)
from recomind.ranker.calibration import platt
from recomind.streams import make_generator
from tests.simulation.tiny import tiny_catalogue, tiny_dataset, tiny_ranker


@pytest.mark.parametrize("trend", [0.0, -0.5])
def test_logits_that_tell_nothing_or_the_contrary_keep_the_rate(trend):
    """The slope has a lower bound, and the offset must be that of the bound."""
    logits = torch.randn(4000, generator=make_generator(0)) - 3.9
    rate = torch.sigmoid(trend * (logits + 3.9) - 3.0)
    labels = (torch.rand(4000, generator=make_generator(1)) < rate).float()
    slope, offset = platt(logits, labels)
    mean = (slope * logits + offset).sigmoid().mean().item()
    assert 0.05 <= slope < 0.1
    assert mean == pytest.approx(labels.mean().item(), rel=0.02)


def uniform(*shape, seed=9):
    return torch.rand(shape, generator=make_generator(seed))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=make_generator(seed))


def drawn(p, seed=9):
    return (uniform(*p.shape, seed=seed) < p).float()


def stairs(logits):
    """Probabilities that no straight line through logits can have."""
    return torch.where(logits > 1.0, 0.9, torch.where(logits > -0.5, 0.35, 0.3))


def ece(logits, labels):
    return calibration_curve(logits.sigmoid(), labels.bool())["ece"]


# The map.


def test_it_starts_as_the_identity_exactly():
    logits = torch.cat([100 * normal(500, 3), torch.tensor([[0.0, 1e-30, -1e30]])])
    assert torch.equal(Calibration(3)(logits), logits)


def test_reset_is_the_identity_again():
    logits, calibration = normal(4_000, 1), Calibration(1)
    assert calibration.fit(logits, drawn(stairs(logits))) == ["isotonic"]
    assert not torch.equal(calibration(logits), logits)
    calibration.reset()
    assert torch.equal(calibration(logits), logits)
    assert not calibration.bends


def test_each_task_gets_what_its_labels_can_bear():
    logits = normal(6_000, 5)
    labels = drawn((logits * 0.5 + 1.0).sigmoid())
    labels[:, 1] = drawn(stairs(logits[:, 1]))
    labels[:, 2] = 0.0
    labels[:40, 2] = 1.0
    labels[:, 3], labels[:, 4] = 0.0, 1.0
    calibration = Calibration(5)
    chosen = calibration.fit(logits, labels)
    assert chosen == ["temperature", "isotonic", "offset", "offset", "offset"]
    assert calibration.slope[0].item() == pytest.approx(0.5, abs=0.06)
    assert calibration.offset[0].item() == pytest.approx(1.0, abs=0.08)
    assert calibration.slope[2:].tolist() == [1.0, 1.0, 1.0]
    never, always = calibration(logits)[:, 3:].sigmoid().mean(dim=0).tolist()
    assert never == pytest.approx(0.5 / 6_001, rel=1e-3)
    assert always == pytest.approx(1 - 0.5 / 6_001, abs=1e-6)
    assert calibration.bent.tolist() == [False, True, False, False, False]
    mean = calibration(logits)[:, 2].sigmoid().mean().item()
    assert mean == pytest.approx(40 / 6_000, rel=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_isotonic_is_not_chosen_where_scores_are_calibrated_already(seed):
    logits = 1.5 * normal(3_000, 4, seed=seed) - 1.0
    calibration = Calibration(4)
    chosen = calibration.fit(logits, drawn(logits.sigmoid(), seed=seed + 50))
    assert chosen.count("temperature") >= 3
    assert torch.allclose(calibration(logits).sigmoid(), logits.sigmoid(), atol=0.08)


def test_a_line_mends_logits_that_are_off():
    true = 1.5 * normal(20_000, 4) - 0.5
    labels, off, calibration = drawn(true.sigmoid()), 2.5 * true + 1.0, Calibration(4)
    calibration.fit(off, labels)
    assert ece(off[:, 0], labels[:, 0]) > 0.05
    assert ece(calibration(off)[:, 0], labels[:, 0]) < 0.012
    assert calibration.slope.tolist() == pytest.approx([0.4] * 4, abs=0.02)
    assert calibration.offset.tolist() == pytest.approx([-0.4] * 4, abs=0.05)


def test_knots_mend_what_no_line_can():
    train, later = 2 * normal(8_000, 1, seed=1), 2 * normal(8_000, 1, seed=2)
    labels = drawn(stairs(later), seed=3)
    calibration, line = Calibration(1), Calibration(1)
    assert calibration.fit(train, drawn(stairs(train))) == ["isotonic"]
    line.slope[:], line.offset[:] = calibration.slope, calibration.offset
    assert log_loss(calibration(later), labels) < log_loss(line(later), labels) - 0.01
    assert ece(calibration(later)[:, 0], labels[:, 0]) < 0.03 < ece(line(later)[:, 0], labels[:, 0])


def test_fitting_again_finds_the_same():
    true = normal(20_000, 2)
    labels, calibration = drawn(true.sigmoid()), Calibration(2)
    calibration.fit(3 * true - 1, labels)
    first = [calibration.slope.clone(), calibration.offset.clone()]
    calibration.fit(3 * true - 1, labels)
    assert torch.equal(calibration.slope, first[0])
    calibration.fit(calibration(3 * true - 1), labels)
    assert calibration.slope.tolist() == pytest.approx([1.0, 1.0], abs=1e-3)
    assert calibration.offset.tolist() == pytest.approx([0.0, 0.0], abs=1e-3)


def test_the_line_through_knots_equals_numpy():
    calibration = Calibration(2)
    x = torch.tensor([-6.0, -1.0, 0.5, 3.0]).repeat(2, 1) + torch.tensor([[0.0], [0.5]])
    y = torch.tensor([[-2.0, -1.9, 1.0, 1.5], [-9.0, 0.0, 0.1, 4.0]])
    calibration.knots_x, calibration.knots_y = x, y
    calibration.bent, calibration.bends = torch.tensor([True, True]), True
    logits = 4 * normal(300, 2)
    got = calibration(logits)
    for task in range(2):
        inside = (logits[:, task] > x[task, 0]) & (logits[:, task] < x[task, -1])
        expected = np.interp(logits[inside, task], x[task], y[task])
        assert got[inside, task].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
        above = logits[:, task] >= x[task, -1]
        shift = logits[above, task] - x[task, -1] + y[task, -1]
        assert torch.allclose(got[above, task], shift, atol=1e-5)
        below = logits[:, task] <= x[task, 0]
        shift = logits[below, task] - x[task, 0] + y[task, 0]
        assert torch.allclose(got[below, task], shift, atol=1e-5)
        assert int(above.sum()) > 3 < int(below.sum())


def test_tasks_without_knots_are_left_straight():
    calibration = Calibration(2)
    logits = normal(4_000, 2)
    labels = drawn(logits.sigmoid())
    labels[:, 1] = drawn(stairs(logits[:, 1]))
    assert calibration.fit(logits, labels) == ["temperature", "isotonic"]
    straight = logits * calibration.slope + calibration.offset
    assert torch.equal(calibration(logits)[:, 0], straight[:, 0])
    assert not torch.allclose(calibration(logits)[:, 1], straight[:, 1], atol=0.05)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    levels=st.lists(st.floats(0.1, 0.9), min_size=4, max_size=4),
    width=st.sampled_from([0.01, 1.0, 6.0]),
)
def test_it_is_strictly_increasing(seed, levels, width):
    """Also where what was observed falls, or does not depend on the score at all."""
    logits = width * normal(1_000, 1, seed=seed)
    step = (logits / width).clamp(-1.99, 1.99).add(2).long()
    calibration = Calibration(1)
    chosen = calibration.fit(logits, drawn(torch.tensor(levels)[step], seed=seed))
    assert chosen[0] in ("isotonic", "temperature")
    grid = torch.linspace(-4 * width, 4 * width, 300)[:, None]
    assert bool((calibration(grid).diff(dim=0) > 0).all())


def test_scores_that_decide_everything_stay_finite():
    logits = torch.linspace(-5, 5, 2_000)[:, None]
    calibration = Calibration(1)
    calibration.fit(logits, (logits > 0).float())
    assert bool(calibration(logits).isfinite().all())
    assert log_loss(calibration(logits), (logits > 0).float()) < 0.05


@pytest.mark.parametrize("size", [1e6, 1e30])
def test_scores_of_any_size_are_fitted(size):
    """As where the learning rate was too high."""
    logits, calibration = size * normal(1_000, 1), Calibration(1)
    labels = drawn(torch.full((1_000, 1), 0.3))
    calibration.fit(logits, labels)
    assert bool(calibration(logits).isfinite().all())
    assert calibration.slope.item() > 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    logits = normal(1_000, 1)
    logits[3] = bad
    with pytest.raises(SchemaError, match="not finite"):
        Calibration(1).fit(logits, drawn(torch.full((1_000, 1), 0.3)))


def test_scores_that_are_all_equal_get_the_rate():
    labels, calibration = torch.zeros(1_000, 1), Calibration(1)
    labels[::4] = 1.0
    calibration.fit(torch.full((1_000, 1), 0.7), labels)
    p = calibration(torch.full((1, 1), 0.7)).sigmoid().item()
    assert p == pytest.approx(0.25, abs=0.01)


def bent_ranker():
    ranker = copy.deepcopy(tiny_ranker(0))
    logits = 2 * normal(6_000, 4)
    assert ranker.calibration.fit(logits, drawn(stairs(logits))) == ["isotonic"] * 4
    return ranker


def test_it_is_saved_with_the_ranker(tmp_path):
    dataset, ranker = tiny_dataset(), bent_ranker()
    rows = dataset.rows("test")[:50]
    folder = tmp_path / "ranker"
    save_rankers(folder, [ranker, tiny_ranker(1)], tiny_catalogue(), Manifest(kind=""))
    loaded = load_rankers(folder)[0]
    assert loaded.calibration.bends  # type: ignore[attr-defined]
    expected = predict(ranker, dataset, rows)[0]
    assert torch.equal(predict(loaded, dataset, rows)[0], expected)
    assert not torch.allclose(predict(tiny_ranker(0), dataset, rows)[0], expected, atol=0.05)


def test_calibrating_on_later_days_starts_anew_and_says_what_was_chosen():
    dataset, ranker = tiny_dataset(), bent_ranker()
    chosen = calibrate_on(ranker, dataset)
    assert set(chosen) == set(dataset.tasks)
    assert not ranker.calibration.bends or "isotonic" in chosen.values()
    expected = tiny_ranker(0).calibration.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in ranker.calibration.state_dict().items())


def test_without_later_days_it_is_the_identity():
    ranker = bent_ranker()
    assert calibrate_on(ranker, tiny_dataset(), lambda block: block.rows()[:0]) == {}
    logits = normal(10, 4)
    assert torch.equal(ranker.calibration(logits), logits)


# The curve.


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


def test_calibration_error_of_a_constant_shift():
    observed = torch.tensor([False, True]).repeat(500)
    curve = calibration_curve(torch.full((1_000,), 0.7), observed, 15)
    assert curve["ece"] == pytest.approx(0.2, abs=0.02)


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


@pytest.mark.parametrize("kind", [0.0, 1.0])
def test_a_kind_of_label_that_never_comes_is_held_below_half_an_event(kind):
    raw, fresh = normal(400, 1), Calibration(1)
    labels = torch.full((400, 1), kind)
    assert fresh.fit(raw, labels) == ["offset"]
    rate = fresh(raw).sigmoid().double().mean()
    assert abs(abs(rate - kind) - 0.5 / 401) < 1e-5
    assert torch.equal(fresh(raw)[:, 0].argsort(), raw[:, 0].argsort())
    sure = Calibration(1)
    assert sure.fit(raw + (20 if kind else -20), labels) == ["none"]
    assert float(sure.offset) == 0.0
