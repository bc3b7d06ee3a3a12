"""A mean cannot hide a loser; what a session was shown."""

from __future__ import annotations

import pytest
import torch

from recomind.data import TableCatalogue
from recomind.errors import ConfigError, SchemaError
from recomind.evaluation.config import GateConfig
from recomind.evaluation.gate import decide
from recomind.evaluation.metrics import SessionRatio, session_ratios
from recomind.evaluation.multiple import holm, one_sided_p
from recomind.evaluation.power import cuped, detectable_effect, power_note
from recomind.evaluation.report import environment_entry
from recomind.evaluation.rollout import SessionOutcomes
from recomind.evaluation.segments import segment_lifts
from recomind.evaluation.sequential import anytime_half_width
from recomind.evaluation.shown import item_measures
from recomind.evaluation.statistics import CLUSTERED_DELTA, PAIRED_DELTA, Lift, paired_lift
from recomind.streams import make_generator


def outcomes_of(watches, heavy, features=None):
    zero = torch.zeros(len(watches), dtype=torch.int64)
    return SessionOutcomes(
        tasks=("watch_10s",),
        num_items=2,
        horizon=30,
        reward=watches.double(),
        task_counts=watches[:, None].long(),
        num_long_watches=zero,
        depth=zero + 12,
        num_distinct=zero + 12,
        left=zero.bool(),
        shown_item_id=torch.tensor([0, 1]),
        user_id=torch.arange(len(watches)),
        user_features=features,
        num_events_before=heavy.long(),
    )


def two_groups(light, heavy, num=400, seed=0):
    """The policy watches `light` and `heavy` times as much as the ranker's 6 videos."""
    generator = make_generator(seed)
    is_heavy = torch.arange(num) % 4 == 0
    rate = torch.where(is_heavy, 6.0 * heavy, 6.0 * light)
    policy = torch.poisson(rate, generator=generator)
    ranker = torch.poisson(torch.full((num,), 6.0), generator=generator)
    before = is_heavy * 20
    return outcomes_of(policy, before), outcomes_of(ranker, before)


def entry_of(light, heavy, evaluation):
    policy, ranker = two_groups(light, heavy)
    arms = {"policy": policy, "ranker": ranker}
    metric = "watch_10s_per_session"
    return environment_entry("world", "world", arms, evaluation, target_metric=metric)


def test_a_policy_that_wins_the_mean_and_ruins_a_segment_is_not_released(evaluation):
    entry = entry_of(1.6, 0.4, evaluation)
    assert entry["lift"]["watch_10s_per_session"]["low"] > 0
    gate = GateConfig(must_not_rise=[], must_not_fall=["session_depth"])
    verdict = decide([entry], gate)
    assert not verdict["released"]
    (reason,) = verdict["reasons"]
    assert "loses in a segment of world, events before the session: high" in reason
    assert decide([entry_of(1.6, 1.0, evaluation)], gate)["released"]


def test_segments_are_cut_by_history_and_by_each_user_feature():
    policy, ranker = two_groups(1.2, 1.0)
    row = torch.arange(400)
    features = torch.stack([row % 7, torch.zeros(400), row % 5 == 0], 1).float()
    policy.user_features = ranker.user_features = features
    rows = segment_lifts(policy, ranker, "watch_10s_per_session", 0.95, ["age"])
    assert [(row["name"], row["num_sessions"]) for row in rows] == [
        ("events before the session: low", 300),
        ("events before the session: high", 100),
        ("age: low", 229),
        ("age: high", 171),
        ("user feature 2: no", 320),  # a feature that is the same for all cuts nothing
        ("user feature 2: yes", 80),
    ]
    low = rows[0]
    assert low["lift"]["value"] == pytest.approx(low["policy"] / low["baseline"] - 1)
    assert segment_lifts(policy, ranker, "like_per_session", 0.95) == []


def test_a_handful_of_sessions_is_no_segment():
    heavy = (torch.arange(400) < 10) * 5
    policy, ranker = (outcomes_of(torch.full((400,), value), heavy) for value in (3.0, 2.0))
    rows = segment_lifts(policy, ranker, "watch_10s_per_session", 0.95)
    assert [row["name"] for row in rows] == ["events before the session: low"]


def test_holm_against_the_definition():
    p_values = {"a": 0.011, "b": 0.02, "c": 0.9, "d": 0.012}
    assert holm(p_values) == pytest.approx({"a": 0.044, "d": 0.044, "b": 0.044, "c": 0.9})
    assert holm({}) == {}
    assert one_sided_p(-1.96, 1.0, 10**6) == pytest.approx(0.025, abs=1e-4)
    assert (one_sided_p(-1.0, 0.0, 9), one_sided_p(0.0, 0.0, 9)) == (0.0, 1.0)


def width(lift):
    assert lift.low is not None
    assert lift.high is not None
    return lift.high - lift.low


def test_sessions_of_one_user_count_as_one_cluster():
    generator = make_generator(4)
    taste = torch.rand(40, generator=generator).repeat_interleave(10)
    effect = 0.8 * torch.randn(40, generator=generator).repeat_interleave(10)
    ones = torch.ones(400).double()
    baseline = SessionRatio(numerator=(3 + taste).double(), denominator=ones)
    policy = SessionRatio(numerator=(3 + taste + effect).double(), denominator=ones)
    users = torch.arange(40).repeat_interleave(10)
    alone, clustered = (paired_lift(policy, baseline, 0.95, u) for u in (None, users))
    assert (alone.method, clustered.method) == (PAIRED_DELTA, CLUSTERED_DELTA)
    assert clustered.value == alone.value
    assert width(clustered) > 2.5 * width(alone)
    each = paired_lift(policy, baseline, 0.95, torch.randperm(400))
    assert (each.low, each.high, each.method) == (alone.low, alone.high, PAIRED_DELTA)
    one = paired_lift(policy, baseline, 0.95, torch.zeros(400).long())  # nobody says whose
    assert (one.low, one.high) == (alone.low, alone.high)


def test_an_anytime_interval_is_wider_and_holds_at_every_look():
    fixed = 1.96 / 1000**0.5
    planned = anytime_half_width(1.0, 1000, planned=1000)
    assert 1.3 * fixed < planned < 1.7 * fixed
    assert planned < anytime_half_width(1.0, 1000, planned=20)
    generator, missed, fixed_missed = make_generator(9), 0, 0
    looks = torch.arange(50, 2001, 50)
    for _ in range(200):
        mean = torch.randn(2000, generator=generator).double().cumsum(0)[looks - 1] / looks
        widths = [anytime_half_width(1.0, int(n), planned=500) for n in looks]
        missed += bool((mean.abs() > torch.tensor(widths)).any())
        fixed_missed += bool((mean.abs() > 1.96 / looks.sqrt()).any())
    assert missed / 200 < 0.05
    assert fixed_missed / 200 > 0.15  # what it is for
    with pytest.raises(ConfigError, match="sessions of an anytime interval"):
        anytime_half_width(1.0, 0, planned=5)


def test_what_a_run_can_find_is_said_before_it():
    # 2.8 standard errors: .05 / 1.96 in 100 sessions, half of it in 400.
    assert detectable_effect(0.05, 100, 400, 0.95) == pytest.approx(0.0357, abs=1e-4)
    lift = Lift(value=0.3, low=0.25, high=0.35, n=100, method="paired")
    assert power_note(lift, 400, 0.95, asked=0.0) == (
        "400 sessions find a lift of 3.6% or more four times in five"
    )
    assert "warning: the gate asks for 2.0%, which takes some 1,278" in power_note(
        lift, 400, 0.95, asked=0.02
    )
    none = Lift(value=None, low=None, high=None, n=9, method="none")
    assert "no interval" in power_note(none, 400, 0.95, asked=0.02)


def test_what_was_known_before_takes_variance_out_and_moves_no_mean():
    generator = make_generator(2)
    before = torch.randn(2000, 2, generator=generator)
    values = 5 + before @ torch.tensor([2.0, 0.0]) + torch.randn(2000, generator=generator)
    adjusted = cuped(values, before)
    assert float(adjusted.mean()) == pytest.approx(float(values.mean()), abs=1e-5)
    assert float(adjusted.var()) == pytest.approx(1.0, abs=0.1)
    shifted = cuped(values, before, mean_C=before.mean(0) + 1.0)
    assert float(shifted.mean()) == pytest.approx(float(values.mean()) + 2.0, abs=0.15)
    with pytest.raises(SchemaError, match="covariates of sessions"):
        cuped(values, before[:5])
    with pytest.raises(SchemaError, match="not a finite number"):
        cuped(values, before * torch.nan)


def catalogue_of(**columns):
    dense = [column.float() for column in columns.values()]
    return TableCatalogue(
        torch.stack(dense, -1)[None] if dense else torch.zeros(1, 20, 0),
        torch.zeros(20, 0).long(),
        dense_names=tuple(columns),
        categorical_names=(),
        vocab_sizes=(),
    )


def test_spread_and_new_items_against_pairs():
    items = torch.tensor([[0, 1, 7, -1], [5, -1, -1, -1], [3, 3, 3, 3]])
    ids = torch.arange(20)
    found = item_measures(catalogue_of(age=ids, loudness=ids % 2 * 3), items)
    spread, num_new = found["spread"], found["num_new"]
    assert spread is not None
    assert num_new is not None
    vectors = [torch.tensor([float(i), 3.0 * (i % 2)]) for i in (0, 1, 7)]
    pairs = [((a - b) ** 2).mean() for i, a in enumerate(vectors) for b in vectors[i + 1 :]]
    assert spread.tolist() == pytest.approx([float(sum(pairs) / 3), 0.0, 0.0])
    assert num_new.tolist() == [2, 0, 0]  # the newest tenth are items 0 and 1
    nothing = item_measures(catalogue_of(), items)
    assert nothing == {"spread": None, "num_new": None}


def test_the_new_metrics_are_of_a_rollout(play):
    policy, _ = two_groups(1.0, 1.0)
    policy.num_new, policy.spread = policy.depth // 4, policy.depth.double()
    ratios = session_ratios(policy)
    assert ratios["new_item_share"].value == 0.25
    assert ratios["session_diversity"].value == 12.0
    assert "new_item_share" not in session_ratios(play("best"))  # items without an age
    assert play("best").user_features.shape == (200, 1)
