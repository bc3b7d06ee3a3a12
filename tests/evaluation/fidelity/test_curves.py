"""Survival, distances, tau and the classifier on inputs whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recomind.evaluation.fidelity.absent import absent, is_absent
from recomind.evaluation.fidelity.agreement import kendall_tau
from recomind.evaluation.fidelity.distance import (
    ks_statistic,
    length_fidelity,
    value_fidelity,
)
from recomind.evaluation.fidelity.sessions import SessionTable, cut_alike
from recomind.evaluation.fidelity.survival import MIN_AT_RISK, hazard_fidelity, kaplan_meier
from recomind.evaluation.fidelity.two_sample import session_features, two_sample
from recomind.streams import make_generator

HORIZON = 10


def ints(*values):
    return torch.tensor(values, dtype=torch.int64)


def flags(*values):
    return torch.tensor(values, dtype=torch.bool)


def naive_kaplan_meier(depth, left, horizon):
    """By the definition, event by event."""
    curve, stay = [], 1.0
    for t in range(1, horizon + 1):
        at_risk = [d > t or (d == t and gone) for d, gone in zip(depth, left, strict=True)]
        gone = [d == t and g for d, g in zip(depth, left, strict=True)]
        if not any(at_risk):
            return curve + [0.0] * (horizon - t + 1) if stay == 0.0 else curve
        beyond = any(d > t for d in depth)
        if not beyond and any(d == t and not g for d, g in zip(depth, left, strict=True)):
            return curve
        stay *= 1.0 - sum(gone) / sum(at_risk)
        curve.append(stay)
    return curve


@pytest.mark.parametrize("share_known", [1.0, 0.7, 0.2])
def test_kaplan_meier_is_the_product_over_those_at_risk(share_known):
    random = np.random.default_rng(0)
    for _ in range(20):
        depth = random.integers(1, 8, size=30)
        left = random.random(30) < share_known
        got = kaplan_meier(torch.from_numpy(depth), torch.from_numpy(left), HORIZON)
        wanted = naive_kaplan_meier(depth.tolist(), left.tolist(), HORIZON)
        np.testing.assert_allclose(got.numpy(), wanted, atol=1e-12)


def test_kaplan_meier_honours_censoring():
    """Two leave after 1, two are censored at 1, two leave after 2: half of four, then all."""
    curve = kaplan_meier(ints(1, 1, 1, 1, 2, 2), flags(1, 1, 0, 0, 1, 1), 3)
    assert curve.tolist() == [0.5, 0.0, 0.0]


def test_a_horizon_that_cuts_all_who_stay_ends_the_curve():
    """At 3 events only leavers are known: no drop to zero there."""
    curve = kaplan_meier(ints(1, 3, 3, 3), flags(1, 1, 0, 0), 3)
    assert curve.tolist() == [0.75, 0.75]


def logged_walk(hazard, num, horizon, seed=0):
    """Positions, known, left of events under a constant hazard; all cut at the horizon."""
    random = np.random.default_rng(seed)
    position, known, left = [], [], []
    for _ in range(num):
        for t in range(horizon):
            gone = bool(random.random() < hazard)
            position.append(t)
            known.append(gone or t + 1 < horizon)
            left.append(gone)
            if gone:
                break
    return torch.tensor(position), torch.tensor(known), torch.tensor(left)


@pytest.mark.parametrize(("predicted", "passed"), [(0.1, True), (0.16, False), (0.05, False)])
def test_hazard_fidelity_knows_the_right_hazard(predicted, passed):
    position, known, left = logged_walk(0.1, 3000, HORIZON)
    p = torch.full((len(position),), predicted)
    found = hazard_fidelity(position, known, left, p, p + 0.05)
    assert found["passed"] is passed
    steps = torch.arange(1, len(found["predicted"]) + 1)
    torch.testing.assert_close(
        torch.tensor(found["predicted"]).double(), (1 - p[0].double()) ** steps
    )
    assert len(found["observed"]) == HORIZON - 1  # the horizon hides who would have stayed
    assert found["max_difference_sampled"] != found["max_difference"]
    error = found["standard_error"][0]
    assert error == pytest.approx((0.1 * 0.9 / 3000) ** 0.5, rel=0.1)


def test_hazard_fidelity_stops_where_few_are_left():
    position, known, left = logged_walk(0.5, 4 * MIN_AT_RISK, HORIZON)
    p = torch.full((len(position),), 0.5)
    found = hazard_fidelity(position, known, left, p, p)
    assert min(found["at_risk"]) >= MIN_AT_RISK
    assert len(found["at_risk"]) < 5


def test_hazard_fidelity_without_known_ends_says_so():
    p = torch.full((4,), 0.5)
    found = hazard_fidelity(ints(0, 1, 0, 1), flags(0, 0, 0, 0), flags(1, 1, 1, 1), p, p)
    assert found == absent("the end of every session of later days is censored")
    few = hazard_fidelity(ints(0, 1, 0, 1), flags(1, 1, 1, 1), flags(0, 1, 0, 1), p, p)
    assert is_absent(few)


def test_ks_of_values_with_ties():
    assert ks_statistic(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 2.0])) == pytest.approx(
        1 / 3
    )
    assert ks_statistic(np.arange(5.0), np.arange(5.0)) == 0.0
    assert is_absent(value_fidelity(np.zeros(0), np.ones(3)))


def test_value_fidelity_gives_quantiles_of_both():
    found = value_fidelity(np.arange(101.0), 2 * np.arange(101.0))
    assert found["quantiles"]["logged"] == pytest.approx([10, 25, 50, 75, 90])
    assert found["quantiles"]["simulated"] == pytest.approx([20, 50, 100, 150, 180])


def test_length_fidelity_of_uncensored_sessions_is_the_ks_statistic():
    random = np.random.default_rng(0)
    ours, theirs = random.integers(1, 8, 50), random.integers(2, 10, 60)
    found = length_fidelity(
        torch.from_numpy(ours),
        torch.ones(50).bool(),
        torch.from_numpy(theirs),
        torch.ones(60).bool(),
        HORIZON,
    )
    assert found["ks"] == pytest.approx(ks_statistic(ours.astype(float), theirs.astype(float)))
    median = int(np.quantile(ours, 0.5, method="inverted_cdf"))
    assert found["quantiles"]["logged"][2] == median


def test_length_quantiles_beyond_the_horizon_are_none():
    found = length_fidelity(
        ints(1, 5, 5, 5), flags(1, 0, 0, 0), ints(1, 1, 5, 5), flags(1, 1, 0, 0), 5
    )
    assert found["quantiles"]["logged"] == [1, 1, None, None, None]
    assert found["quantiles"]["simulated"] == [1, 1, 1, None, None]


def test_lengths_are_not_compared_where_every_end_is_censored():
    depth = ints(3, 4)
    found = length_fidelity(depth, flags(0, 0), depth, flags(1, 1), 5)
    assert found == absent("the end of every logged session is censored")


def naive_tau_b(x, y):
    same = differ = tied_x = tied_y = 0
    for i in range(len(x)):
        for j in range(i):
            dx, dy = x[i] - x[j], y[i] - y[j]
            same += dx * dy > 0
            differ += dx * dy < 0
            tied_x += dx != 0
            tied_y += dy != 0
    return (same - differ) / (tied_x * tied_y) ** 0.5


def test_kendall_tau_against_a_loop():
    random = np.random.default_rng(0)
    for _ in range(50):
        x, y = random.integers(0, 6, size=(2, 9)).astype(float)
        assert kendall_tau(x, y) == pytest.approx(naive_tau_b(x, y))
    assert kendall_tau(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None


def random_sessions(num, hazard, rate, seed):
    """Sessions with two tasks under a constant hazard."""
    generator = make_generator(seed)
    gone = torch.rand(num, HORIZON, generator=generator) < hazard
    gone[:, -1] = True
    depth = gone.int().argmax(1) + 1
    mask = torch.arange(HORIZON) < depth[:, None]
    feedback = torch.rand(num, HORIZON, 2, generator=generator) < rate
    return SessionTable(
        depth_S=depth,
        left_S=torch.ones(num, dtype=torch.bool),
        feedback_STH=feedback & mask[..., None],
        dwell_ST=torch.rand(num, HORIZON, generator=generator) * 30 * mask,
    )


def test_sessions_of_one_kind_cannot_be_told_apart():
    ours, theirs = random_sessions(400, 0.2, 0.3, 1), random_sessions(400, 0.2, 0.3, 2)
    found = two_sample(ours, theirs, ("view", "like"), make_generator(0))
    assert abs(found["auc"] - 0.5) < 4 * found["standard_error"]
    assert found["standard_error"] == pytest.approx(0.0204, rel=0.01)


def test_sessions_of_another_kind_are_told_by_what_differs():
    ours, theirs = random_sessions(400, 0.2, 0.3, 1), random_sessions(400, 0.2, 0.6, 2)
    theirs.feedback_STH[..., 1] = ours.feedback_STH[..., 1] & theirs.mask_ST
    found = two_sample(ours, theirs, ("view", "like"), make_generator(0))
    assert found["auc"] > 0.7
    assert found["top_features"][0]["feature"].startswith("view.")
    assert found["top_features"][0]["simulated"] > found["top_features"][0]["logged"]


def test_a_classifier_needs_sessions():
    few = random_sessions(10, 0.2, 0.3, 1)
    assert is_absent(two_sample(few, few, ("view", "like"), make_generator(0)))


def test_session_features_of_a_session_by_hand():
    table = SessionTable(
        depth_S=ints(3),
        left_S=flags(1),
        feedback_STH=torch.tensor([[[1], [1], [0], [0]]]).bool(),
        dwell_ST=torch.tensor([[30.0, 60.0, 0.0, 0.0]]),
    )
    names, values = session_features(table, ("view",))
    row = dict(zip(names, values[0].tolist(), strict=True))
    assert (row["events"], row["minutes"], row["user_left"]) == (3.0, 1.5, 1.0)
    assert row["view.rate"] == pytest.approx(2 / 3)
    assert row["view.twice_running"] == 0.5
    assert row["view.last"] == 0.0
    assert row["log_dwell.first"] == pytest.approx(np.log1p(30.0))


def test_the_twin_of_a_censored_session_is_censored_there():
    logged = SessionTable(
        depth_S=ints(2, 2, 4),
        left_S=flags(0, 1, 0),
        feedback_STH=torch.zeros(3, 4, 1).bool(),
        dwell_ST=torch.zeros(3, 4),
    )
    simulated = SessionTable(
        depth_S=ints(4, 4, 4),
        left_S=flags(1, 1, 1),
        feedback_STH=torch.ones(3, 4, 1).bool(),
        dwell_ST=torch.ones(3, 4),
    )
    cut = cut_alike(simulated, logged)
    assert cut.depth_S.tolist() == [2, 4, 4]  # the third one was cut by the horizon itself
    assert cut.left_S.tolist() == [False, True, True]
    assert cut.feedback_STH.sum((1, 2)).tolist() == [2, 4, 4]
    assert cut.dwell_ST.sum(1).tolist() == [2.0, 4.0, 4.0]
