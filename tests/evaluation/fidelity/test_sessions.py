"""Logged sessions, their replay, and predictions of logged events."""

from __future__ import annotations

import copy

import pytest
import torch

from recomind.evaluation.fidelity.logged import dated, predict_logged, without_pessimism
from recomind.evaluation.fidelity.positions import position_rates
from recomind.evaluation.fidelity.sessions import logged_sessions, replay
from recomind.simulation import Pessimism
from recomind.streams import make_generator
from tests.simulation import tiny

H = tiny.HORIZON


@pytest.fixture
def rows(dataset):
    return dataset.rows("calibration", "test", holdout=False)


@pytest.fixture
def logged(dataset, rows):
    return logged_sessions(dataset, rows, H, 1000, make_generator(0))


def test_logged_sessions_are_those_of_the_log(dataset, rows, logged):
    table = logged.table
    assert int(table.depth_S.sum()) == len(rows)
    assert len(table.depth_S) == int((dataset.position(rows) == 0).sum())
    assert int(table.left_S.sum()) == int((dataset.left(rows) & dataset.left_known(rows)).sum())
    torch.testing.assert_close(
        table.feedback_STH[table.mask_ST].sum(0).float(), dataset.labels(rows).sum(0)
    )
    assert table.dwell_ST.sum() == pytest.approx(float(dataset.dwell_s(rows).sum()), rel=1e-4)
    first = logged.start_S[0]
    depth = int(table.depth_S[0])
    assert (
        logged.item_ST[0, :depth].tolist() == dataset.item_id(first + torch.arange(depth)).tolist()
    )


def test_items_behind_the_end_are_items_of_the_log(dataset, rows, logged):
    behind = logged.item_ST[~logged.table.mask_ST]
    assert torch.isin(behind, dataset.item_id(rows)).all()
    assert len(behind.unique()) > 50


def test_a_shorter_horizon_cuts_the_logged_sessions_and_censors_them(dataset, rows, logged):
    short = logged_sessions(dataset, rows, 3, 1000, make_generator(0)).table
    longer = logged.table.depth_S > 3
    assert torch.equal(short.depth_S, logged.table.depth_S.clamp(max=3))
    assert not short.left_S[longer].any()
    assert torch.equal(short.left_S[~longer], logged.table.left_S[~longer])


def test_no_more_sessions_than_asked_for(dataset, rows):
    few = logged_sessions(dataset, rows, H, 7, make_generator(0))
    assert len(few.start_S) == 7
    assert (few.table.depth_S >= 1).all()


def test_a_replay_begins_as_the_log_does_and_shows_its_items(dataset, logged, simulator):
    shown = []
    step = simulator.step
    simulator.step = lambda item: shown.append((simulator._state.clone(), item)) or step(item)
    table = replay(simulator, dataset, logged, make_generator(0))
    state = shown[0][0]
    start = dataset.state(logged.start_S)
    assert torch.equal(state.history_item_id, start.history_item_id)
    assert torch.equal(state.user_features, start.user_features)
    assert torch.equal(torch.stack([i for _, i in shown], 1), logged.item_ST[:, : len(shown)])
    assert ((table.depth_S >= 1) & (table.depth_S <= H)).all()
    assert (table.left_S | (table.depth_S == H)).all()
    assert not table.feedback_STH[~table.mask_ST].any()


def test_a_replay_leaves_as_often_as_the_hazard_says(dataset, logged, simulator):
    simulator._leaving = lambda seen: torch.full((len(seen.state.step),), 0.5)
    table = replay(simulator, dataset, logged, make_generator(0))
    assert table.depth_S.float().mean() == pytest.approx(2.0, abs=0.5)


def test_predictions_are_those_of_the_models(dataset, rows, simulator):
    found = predict_logged(simulator, dataset, rows)
    part = rows[:50]
    state, item = dataset.state(part), dataset.item_id(part)
    members = simulator.member_probabilities(state, item)
    torch.testing.assert_close(found.mean_RH[:50], members.mean(0))
    torch.testing.assert_close(found.sampled_RH[:50], simulator.probabilities(state, item))
    torch.testing.assert_close(
        found.sampled_hazard_R[:50], simulator.hazard(dataset.next_state(part))
    )
    assert (found.sampled_hazard_R >= found.mean_hazard_R).all()
    assert (found.sampled_RH[:, 0] <= found.mean_RH[:, 0]).all()
    assert not torch.equal(found.sampled_RH, found.mean_RH)
    assert simulator.pessimism is Pessimism.minimum  # left as it was


def test_the_tree_simulator_has_no_pessimism(dataset, rows, holdout):
    found = predict_logged(holdout, dataset, rows)
    assert torch.equal(found.sampled_RH, found.mean_RH)
    assert torch.equal(found.sampled_hazard_R, found.mean_hazard_R)
    state, item = dataset.state(rows), dataset.item_id(rows)
    plain = without_pessimism(holdout).probabilities(state, item)
    assert torch.equal(plain, holdout.probabilities(state, item))


def test_no_rows_give_no_predictions(dataset, simulator):
    found = predict_logged(simulator, dataset, torch.zeros(0, dtype=torch.int64))
    assert found.mean_RH.shape == (0, len(dataset.tasks))


def test_predictions_see_the_content_of_their_day(dataset, rows, holdout):
    """A catalogue whose second day differs: rows of the first day must not see it."""
    two_days = copy.copy(dataset.catalogue)
    two_days.dense_DNF = torch.cat([two_days.dense_DNF, two_days.dense_DNF + 3.0])
    two_days.num_snapshots = 2
    part = rows[:40]
    state, item = dataset.state(part), dataset.item_id(part)
    before = holdout.probabilities(state, item)
    holdout.catalogue = two_days
    first, second = (
        dated(holdout, torch.full_like(part, day)).probabilities(state, item) for day in (0, 1)
    )
    torch.testing.assert_close(first, before)
    assert not torch.allclose(second, before)


def test_position_rates_are_over_those_still_there(logged, dataset):
    found = position_rates(logged.table, logged.table, dataset.tasks)["watch_10s"]
    here = logged.table.depth_S >= 2
    rate = logged.table.feedback_STH[here, 1, 0].float().mean()
    assert found["logged"][1] == pytest.approx(float(rate))
    assert found["n_logged"][1] == int(here.sum())
    assert found["max_difference"] == 0.0
