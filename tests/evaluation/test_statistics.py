"""Lifts and their intervals."""

from __future__ import annotations

import math

import pytest
import torch

from recomind.errors import ConfigError, SchemaError
from recomind.evaluation.metrics import SessionRatio
from recomind.evaluation.statistics import (
    Lift,
    lifts,
    over_seeds_and_sessions,
    paired_lift,
    pool_seeds,
    student_quantile,
)
from recomind.streams import make_generator


def mean_of(values):
    values = values.double()
    return SessionRatio(numerator=values, denominator=torch.ones_like(values))


def deep_only(depth):
    deep = (depth >= 10).double()
    return SessionRatio(numerator=depth * deep, denominator=deep)


def width_of(lift):
    assert lift.low is not None
    assert lift.high is not None
    return lift.high - lift.low


def paired_counts(num, generator):
    """Watches of two arms that share the user: means 4 and 4.8."""
    user = 0.5 + torch.rand(num, generator=generator)
    return torch.poisson(4.8 * user, generator=generator), torch.poisson(
        4.0 * user, generator=generator
    )


def paired_depths(num, generator):
    """Geometric depths from common luck; beyond ten, the mean is 9 + 1 / p."""
    luck = torch.rand(num, generator=generator, dtype=torch.float64)
    return [1 + (luck.log() / math.log(1 - p)).floor() for p in (0.08, 0.1)]


@pytest.mark.parametrize(
    ("draw", "metric", "truth", "num"),
    [
        (paired_counts, mean_of, 0.2, 300),
        (paired_depths, deep_only, (9 + 1 / 0.08) / (9 + 1 / 0.1) - 1, 600),
    ],
    ids=["mean per session", "ratio over different sessions"],
)
def test_interval_covers_the_truth_as_often_as_it_says(draw, metric, truth, num):
    generator = make_generator(11)
    covered = 0
    for _ in range(400):
        policy, baseline = draw(num, generator)
        lift = paired_lift(metric(policy), metric(baseline))
        covered += lift.low <= truth <= lift.high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize(("draw", "metric"), [(paired_counts, mean_of), (paired_depths, deep_only)])
def test_interval_agrees_with_a_paired_bootstrap(draw, metric):
    generator = make_generator(5)
    policy, baseline = (values.double() for values in draw(1000, generator))
    lift = paired_lift(metric(policy), metric(baseline))
    ratios = []
    for _ in range(600):
        rows = torch.randint(1000, (1000,), generator=generator)
        ratios.append(metric(policy[rows]).value / metric(baseline[rows]).value - 1)
    bootstrapped = 2 * 1.96 * float(torch.tensor(ratios).std())
    assert width_of(lift) == pytest.approx(bootstrapped, rel=0.12)


def test_lift_is_the_ratio_of_means_and_uses_the_pairing():
    policy, baseline = paired_counts(2000, make_generator(1))
    paired = paired_lift(mean_of(policy), mean_of(baseline))
    assert paired.value == pytest.approx(float(policy.mean() / baseline.mean() - 1))
    shuffled = policy[torch.randperm(2000, generator=make_generator(2))]
    unpaired = paired_lift(mean_of(shuffled), mean_of(baseline))
    assert unpaired.value == pytest.approx(paired.value)
    assert width_of(paired) < 0.9 * width_of(unpaired)


def test_an_arm_has_no_lift_over_itself():
    values, _ = paired_counts(50, make_generator(3))
    lift = paired_lift(mean_of(values), mean_of(values))
    assert (lift.value, lift.low, lift.high) == (0.0, 0.0, 0.0)


def test_a_larger_confidence_is_a_wider_interval():
    policy, baseline = (mean_of(v) for v in paired_counts(50, make_generator(4)))
    narrow, wide = paired_lift(policy, baseline, 0.8), paired_lift(policy, baseline, 0.99)
    ratio = student_quantile(0.99, 49) / student_quantile(0.8, 49)
    assert width_of(wide) / width_of(narrow) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("policy", "baseline", "reason"),
    [
        ([1.0, 2.0], [0.0, 0.0], "baseline's mean is 0"),
        ([1.0], [2.0], "fewer than two sessions"),
    ],
)
def test_what_cannot_be_had_is_none_with_a_reason(policy, baseline, reason):
    lift = paired_lift(mean_of(torch.tensor(policy)), mean_of(torch.tensor(baseline)))
    assert lift.low is None
    assert lift.high is None
    assert reason in lift.to_dict()["reason"]


def test_costs_are_compared_as_earnings_are():
    policy, baseline = paired_counts(200, make_generator(4))
    earned, paid = (
        paired_lift(mean_of(sign * policy), mean_of(sign * baseline)) for sign in (1.0, -1.0)
    )
    assert (earned.value or 0.0) > 0.1
    assert paid.value == pytest.approx(-(earned.value or 0.0))  # more costs are worse
    assert (paid.low, paid.high) == pytest.approx((-(earned.high or 0.0), -(earned.low or 0.0)))


def test_no_deep_session_in_one_arm():
    shallow, deep = torch.full((5,), 3.0), torch.full((5,), 12.0)
    lift = paired_lift(deep_only(deep), deep_only(shallow))
    assert lift.value is None
    assert "no session counts" in str(lift.reason)


def test_arms_that_are_not_paired():
    with pytest.raises(SchemaError, match="not paired; got: 3 and 4"):
        paired_lift(mean_of(torch.ones(3)), mean_of(torch.ones(4)))


def test_non_finite_sessions():
    with pytest.raises(SchemaError, match="not a finite number"):
        paired_lift(mean_of(torch.tensor([1.0, torch.inf])), mean_of(torch.ones(2)))


def test_lifts_of_rollouts(play):
    table = lifts(play("best"), play("middle"))
    middle = play("middle")
    assert table["reward_per_session"].value == pytest.approx(12 / float(middle.reward.mean()) - 1)
    half = width_of(table["reward_per_session"]) / 2
    assert 0 < half < (table["reward_per_session"].value or 0.0)
    assert table["coverage"].value == 0.0
    assert table["coverage"].low is None
    assert table["hide_per_session"].value is None
    assert "session_depth_10plus" in table


def test_pooling_over_seeds_is_the_textbook_t_interval():
    pooled = pool_seeds([seed_lift(v) for v in (0.1, 0.2, 0.3)])
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert pooled.n == 3
    assert pooled.value == pytest.approx(0.2)
    assert pooled.low == pytest.approx(0.2 - half)
    assert pooled.high == pytest.approx(0.2 + half)


def test_pooling_what_has_no_spread_or_no_value():
    one = pool_seeds([seed_lift(0.1)])
    assert (one.value, one.low, one.reason) == (0.1, None, "one seed has no spread")
    some = pool_seeds([seed_lift(0.1), seed_lift(None)])
    assert some.value is None
    assert some.reason == "1 of 2 seeds have no lift: the baseline did nothing"
    with pytest.raises(ConfigError, match="no lifts"):
        pool_seeds([])


def test_the_luck_that_all_seeds_share_is_in_the_interval_over_seeds():
    generator = make_generator(5)
    covered = {over_seeds_and_sessions: 0, pool_seeds: 0}
    for _ in range(400):
        shared = 0.02 * float(torch.randn(1, generator=generator))  # the sessions' luck
        values = 0.1 + shared + 0.01 * torch.randn(4, generator=generator).double()
        half = 1.96 * 0.02
        each = [
            Lift(value=v, low=v - half, high=v + half, n=99, method="paired")
            for v in values.tolist()
        ]
        for pool in covered:
            pooled = pool(each)
            assert pooled.low is not None
            assert pooled.high is not None
            covered[pool] += pooled.low <= 0.1 <= pooled.high
    assert covered[over_seeds_and_sessions] / 400 >= 0.94
    assert covered[pool_seeds] / 400 < 0.75


def test_seeds_without_an_interval_of_their_own_have_none_together():
    pooled = over_seeds_and_sessions([seed_lift(v) for v in (0.1, 0.2, 0.3)])
    assert (pooled.value, pooled.low) == (pytest.approx(0.2), None)
    assert "3 of 3 seeds have no interval" in (pooled.reason or "")


def test_confidence_must_be_a_probability():
    with pytest.raises(ConfigError, match="confidence"):
        student_quantile(95, 10)


def seed_lift(value):
    reason = "the baseline did nothing" if value is None else None
    return Lift(value=value, low=None, high=None, n=9, method="none", reason=reason)
