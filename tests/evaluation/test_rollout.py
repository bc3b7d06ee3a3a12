"""Rollouts against a world whose answers are known."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from recomind.errors import ConfigError, SchemaError
from recomind.evaluation.metrics import coverage, session_ratios, summarise


def test_best_item_gives_the_known_best_session(play):
    outcomes = play("best")
    assert outcomes.reward.tolist() == [12.0] * 200
    assert outcomes.task_counts.unique(dim=0).tolist() == [[0, 12, 0]]
    assert outcomes.depth.tolist() == [12] * 200
    assert outcomes.num_distinct.tolist() == [1] * 200
    assert outcomes.num_repeats.tolist() == [11] * 200
    assert not outcomes.left.any()
    assert outcomes.shown_item_id.tolist() == [0]
    assert outcomes.survival() == [1.0] * 13


def test_worst_item_ends_every_session_at_once(play):
    outcomes = play("worst")
    assert outcomes.depth.tolist() == [1] * 200
    assert outcomes.task_counts.unique(dim=0).tolist() == [[0, 0, 1]]
    assert outcomes.left.all()
    assert outcomes.reward.sum() == 0
    assert outcomes.survival() == [1.0] + [0.0] * 12


def test_what_ended_sessions_are_fed_is_not_counted(play):
    outcomes = play("by_step")
    # Step 9 shows item 9, which ends whatever was still alive; item 0 is only shown at step 0.
    assert outcomes.depth.max() == 10
    assert (outcomes.num_distinct == outcomes.depth).all()
    assert (outcomes.num_repeats == 0).all()
    assert outcomes.task_counts[:, 1].tolist() == outcomes.reward.tolist()
    assert outcomes.shown_item_id.tolist() == list(range(10))


def test_survival_counts_who_has_not_left(play):
    outcomes = play("middle")
    for after in range(13):
        gone = [
            left and depth <= after
            for left, depth in zip(outcomes.left.tolist(), outcomes.depth.tolist(), strict=True)
        ]
        assert outcomes.survival()[after] == pytest.approx(1 - sum(gone) / 200)


@pytest.mark.parametrize("name", ["middle", "random"])
def test_equal_seeds_are_bit_equal_whatever_the_batches(play, name):
    first, again, in_chunks = play(name), play(name), play(name, batch_size=7)
    for field in dataclasses.fields(first):
        value = getattr(first, field.name)
        for other in (again, in_chunks):
            same = getattr(other, field.name)
            assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same


def test_random_policy_differs_between_sessions_and_from_other_seeds(play, seeds):
    outcomes = play("random")
    assert outcomes.depth.unique().numel() > 3
    assert (outcomes.num_distinct[outcomes.depth >= 6] > 2).all()  # a new draw at every step
    assert not torch.equal(outcomes.depth, play("random", seeds=seeds + 1).depth)


def test_pools_are_only_asked_for_sessions_that_are_alive(play, alive_only):
    outcomes = play("middle", source=alive_only)
    for step, steps in enumerate(alive_only.steps):
        assert steps == [step] * int((outcomes.depth > step).sum())
    assert len(alive_only.steps) == int(outcomes.depth.max())


def test_pairing_takes_variance_out_of_the_difference(play):
    middle, random = play("middle").reward, play("random").reward
    paired = (random - middle).var()
    assert paired < 0.8 * (random.var() + middle.var())


def test_metrics_of_the_known_sessions(play):
    best = summarise(play("best"))
    assert best["watch_10s_per_session"] == {"mean": 12.0, "standard_error": 0.0, "n": 200}
    assert best["session_depth_10plus"] == {"mean": 12.0, "standard_error": 0.0, "n": 200}
    assert best["repeat_share"]["mean"] == pytest.approx(11 / 12)
    assert best["coverage"] == {"mean": 0.1, "standard_error": None, "n": 200}
    assert best["click_per_session"]["mean"] == 0.0
    worst = summarise(play("worst"))
    assert worst["hide_per_session"]["mean"] == 1.0
    assert worst["session_depth_10plus"] == {"mean": None, "standard_error": None, "n": 0}


def test_depth_10plus_is_the_mean_over_deep_sessions_alone(play):
    outcomes = play("middle")
    deep = [depth for depth in outcomes.depth.tolist() if depth >= 10]
    assert 2 < len(deep) < 200
    measured = summarise(outcomes)["session_depth_10plus"]
    assert measured["mean"] == pytest.approx(sum(deep) / len(deep))
    assert measured["n"] == len(deep)


def test_standard_error_of_a_mean_is_the_textbook_one(play):
    outcomes = play("middle")
    expected = outcomes.reward.std() / 200**0.5
    assert summarise(outcomes)["reward_per_session"]["standard_error"] == pytest.approx(
        float(expected)
    )


def test_a_longer_session_does_not_raise_what_is_counted_by_interaction(play):
    outcomes = play("middle")
    measured = summarise(outcomes)
    for index, task in enumerate(outcomes.tasks):
        rate = outcomes.task_counts[:, index].sum() / outcomes.depth.sum()
        assert measured[f"{task}_per_interaction"]["mean"] == pytest.approx(float(rate))
        per_session = measured[f"{task}_per_session"]["mean"]
        assert per_session == pytest.approx(rate * measured["session_depth"]["mean"])


def test_long_watches_come_from_dwell_where_no_task_says_so(play, world_without_watch_task):
    outcomes = play("best", world=world_without_watch_task)
    assert session_ratios(outcomes)["watch_10s_per_session"].value == 12.0
    assert session_ratios(outcomes)["long_view_per_session"].value == 12.0


def test_coverage_is_over_all_sessions_of_all_chunks(play):
    assert coverage(play("random", batch_size=3)) == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": torch.zeros(0, dtype=torch.int64)}, "seeds of the sessions"),
        ({"seeds": torch.zeros(3)}, "int64"),
        ({"batch_size": 0}, "batch size"),
    ],
)
def test_bad_requests(play, options, message):
    with pytest.raises(ConfigError, match=message):
        play("best", **options)


def test_item_outside_the_catalogue(play, constant):
    with pytest.raises(SchemaError, match="outside the catalogue; got: ids 10 to 10"):
        play(constant(10))


def test_environment_that_forgets_its_horizon(play, world):
    world.horizon = 12
    step = world.step

    def endless(item_id):
        result = step(item_id)
        result.truncated = torch.zeros_like(result.truncated)
        return result

    world.step = endless
    with pytest.raises(SchemaError, match="200 alive after 12 steps"):
        play("best")


def test_outcomes_that_are_not_finite_are_refused(play):
    outcomes = play("middle")
    outcomes.reward[3] = float("nan")
    with pytest.raises(SchemaError, match=r"reward_per_session.*1 of 200"):
        summarise(outcomes)
