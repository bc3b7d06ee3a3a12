"""Logs of several days: newer ones count more, and a trend of older ones is not carried on."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from recomind.data import SessionDataset, TableCatalogue
from recomind.simulation import SimulatorConfig
from recomind.simulation.recency import holdout_rows, recency_weights
from recomind.simulation.response import fit_leave, summaries
from recomind.simulation.trees import fit_trees
from recomind.streams import make_generator
from tests.simulation import tiny

TURN, CALIBRATION, TEST = 6, 7, 8  # days; until the turn users leave less from day to day
A_DAY = 1_500


def logs(holdout=False):
    """Sessions of one event; the feature `age` grows with the log, `kind` tells who leaves."""
    generator = make_generator(0)
    day = torch.arange(TEST + 1).repeat_interleave(A_DAY)
    num = len(day)
    kind = torch.randint(2, (num,), generator=generator).float()
    rate = (-0.4 * day.clamp(max=TURN) + 1.5 * kind).sigmoid()
    left = torch.rand(num, generator=generator) < rate
    age = day + 0.3 * torch.randn(num, generator=generator)
    split = ["train"] * CALIBRATION + ["calibration", "test"]
    frame = pl.DataFrame(
        {
            "session_id": range(num),
            "history_id": range(num),
            "user_id": range(num),
            "position": [0] * num,
            "time_ms": [0] * num,
            "item_id": [0] * num,
            "watch_10s": [0] * num,
            "dwell_s": [1.0] * num,
            "left": left.tolist(),
            "left_known": [True] * num,
            "split": [split[d] for d in day.tolist()],
            "propensity": [None] * num,
            "holdout": [holdout] * num,
            "snapshot": day.tolist(),
            "u_age": age.tolist(),
            "u_kind": kind.tolist(),
            "round_index": [0] * num,
        }
    )
    items = TableCatalogue(
        torch.zeros(TEST + 1, 1, 0),
        torch.zeros(1, 0, dtype=torch.int64),
        dense_names=(),
        categorical_names=(),
        vocab_sizes=(),
    )
    dataset = SessionDataset(
        frame, items, tasks=["watch_10s"], user_feature_names=["age", "kind"], history_length=1
    )
    return dataset, rate


@pytest.mark.parametrize("seed", [0, 1])
def test_a_trend_that_has_ended_is_not_carried_on(seed):
    dataset, rate = logs()
    config = SimulatorConfig(hidden=8, num_epochs=6, batch_size=256, learning_rate=1e-2)
    config.item_categories = False  # of which these logs have none that matters
    train, later, test = (dataset.rows(name) for name in ("train", "calibration", "test"))
    net = fit_leave(dataset, train, later, config, seed)
    with torch.no_grad():
        predicted = net(summaries(dataset, test, after=True))[:, 0].sigmoid()
    assert predicted.mean().item() == pytest.approx(rate[test].mean().item(), abs=0.025)
    assert (predicted - rate[test]).abs().mean() < 0.05


def test_an_event_counts_half_a_day_later_in_its_round():
    dataset, _ = logs()
    rows = torch.tensor([0, A_DAY, 2 * A_DAY, 4 * A_DAY])
    expected = torch.tensor([0.0625, 0.125, 0.25, 1.0])
    assert torch.allclose(recency_weights(dataset, rows), expected)
    dataset._int["round_index"][2 * A_DAY :] = 1
    expected = torch.tensor([0.5, 1.0, 0.25, 1.0])
    assert torch.allclose(recency_weights(dataset, rows), expected)


def test_all_events_count_alike_in_the_logs_of_a_world():
    dataset = tiny.tiny_dataset()
    assert (recency_weights(dataset, dataset.rows()) == 1.0).all()


def test_the_holdout_is_fitted_to_all_days_of_its_users_the_older_the_less():
    dataset, _ = logs(holdout=True)
    rows, weights, later = holdout_rows(dataset)
    assert sorted([*rows.tolist(), *later.tolist()]) == dataset.rows(holdout=True).tolist()
    assert bool((dataset.snapshot(later) >= CALIBRATION).all())
    age = (CALIBRATION - 1 - dataset.snapshot(rows)).clamp(min=0)
    assert torch.allclose(weights, 0.5**age)


@pytest.mark.parametrize("day", [0, TURN])
def test_trees_follow_the_events_that_weigh(day):
    dataset, _ = logs()
    dataset._user_EU[:, 0] = 0.0  # without the age nothing tells the days apart
    rows = dataset.rows()[dataset.snapshot(dataset.rows()) <= TURN]
    mine = dataset.snapshot(rows) == day
    models = fit_trees(dataset, rows, rows[mine], 0, weights=mine.float() + 1e-6)
    states = summaries(dataset, rows[mine], after=True).numpy()
    left = dataset.left(rows[mine]).float()
    assert models.predict("leave", states).mean() == pytest.approx(float(left.mean()), abs=0.02)
