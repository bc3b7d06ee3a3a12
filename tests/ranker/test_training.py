"""Fitting finds what is there, calibration mends what is off, and a failure is told."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache

import polars as pl
import pytest
import torch

from recomind.data import SessionDataset
from recomind.data.sessions import ORDER
from recomind.errors import RecomindError
from recomind.ranker import (
    calibrate,
    calibration_curve,
    fit_ranker,
    log_loss,
    new_ranker,
    predict,
    quality,
)
from recomind.streams import make_generator
from simulators.video_feed.world import TASKS
from tests.simulation.tiny import (
    LENGTH,
    RANKER,
    tiny_catalogue,
    tiny_dataset,
    tiny_frame,
    tiny_ranker,
)


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=make_generator(seed))


def even_topic(item_id):
    return tiny_catalogue().features(item_id).categorical[:, 0] % 2 == 0


@cache
def planted_dataset() -> SessionDataset:
    """Items of even topics are watched with .95, the others with .05."""
    frame = tiny_frame().sort(*ORDER, maintain_order=True)
    item_id = torch.from_numpy(frame["item_id"].to_numpy().copy())
    watched = uniform(len(item_id)) < torch.where(even_topic(item_id), 0.95, 0.05)
    frame = frame.with_columns(
        pl.Series("watch_10s", watched.to(torch.uint8).numpy()),
        pl.lit(0, dtype=pl.Int64).alias("round_index"),
    )
    names = [name[2:] for name in frame.columns if name.startswith("u_")]
    return SessionDataset(
        frame, tiny_catalogue(), tasks=TASKS, user_feature_names=names, history_length=LENGTH
    )


def fit(dataset, seed=0, num_epochs=1, **changes):
    ranker = new_ranker(dataset, replace(RANKER, **changes), seed)
    return fit_ranker(
        ranker,
        dataset,
        rows=dataset.rows("train"),
        calibration_rows=dataset.rows("calibration"),
        num_epochs=num_epochs,
        seed=seed,
    )


def test_a_planted_signal_is_found():
    dataset = planted_dataset()
    rows = dataset.rows("test")
    untrained = quality(*predict(new_ranker(dataset, RANKER, 0), dataset, rows), TASKS)
    trained = quality(*predict(fit(dataset, num_epochs=8), dataset, rows), TASKS)
    assert trained["auc.watch_10s"] > 0.85 > untrained["auc.watch_10s"]
    assert trained["log_loss.watch_10s"] < 0.45
    assert trained["ece.watch_10s"] < 0.1


def test_same_seed_same_ranker_and_the_global_generator_is_left_alone():
    dataset = tiny_dataset()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two, other = (fit(dataset, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())
    assert not torch.equal(one.head.weight, other.head.weight)
    assert not one.training


def test_only_the_given_rows_are_trained_on():
    """Ids that never appear keep their row of the table."""
    dataset = tiny_dataset()
    ranker = new_ranker(dataset, replace(RANKER, id_buckets=4096), 0)
    before = ranker.items.id_table.weight.detach().clone()
    rows = dataset.rows("train")[:20]
    fit_ranker(ranker, dataset, rows=rows, calibration_rows=rows[:0], num_epochs=2, seed=0)
    moved = (ranker.items.id_table.weight != before).any(1).sum()
    assert (
        10
        < int(moved)
        <= len(dataset.item_id(rows).unique()) + int(dataset.state(rows).history_mask.sum())
    )


def test_the_best_epoch_is_kept():
    """Calibration rows that contradict the training rows get worse from the first epoch on."""
    dataset = planted_dataset()
    rows, odd = dataset.rows("train"), dataset.rows("calibration")
    against = odd[dataset.labels(odd)[:, 0] != even_topic(dataset.item_id(odd))]
    ranker, losses, heads = new_ranker(dataset, RANKER, 0), [], []
    per_epoch = -(-len(rows) // RANKER.batch_size)

    def watch(done, total, loss):
        if done % per_epoch == 0:
            losses.append(log_loss(*predict(ranker, dataset, against)))
            heads.append(ranker.head.weight.detach().clone())

    fit_ranker(
        ranker, dataset, rows=rows, calibration_rows=against, num_epochs=5, seed=0, progress=watch
    )
    best = losses.index(min(losses))
    assert best < 4
    assert torch.equal(ranker.head.weight, heads[best])
    assert not torch.equal(ranker.head.weight, heads[-1])


def test_progress_counts_to_the_end():
    dataset, told = tiny_dataset(), []
    rows = dataset.rows("train")[:500]
    fit_ranker(
        new_ranker(dataset, RANKER, 0), dataset, rows=rows, calibration_rows=rows[:0],
        num_epochs=2, seed=0, progress=lambda *event: told.append(event),
    )  # fmt: skip
    assert [event[:2] for event in told] == [(done, 16) for done in range(1, 17)]
    assert all(0 < loss < 2 for *_, loss in told)


def test_a_loss_that_is_not_a_number_is_told():
    dataset = tiny_dataset()
    ranker = new_ranker(dataset, RANKER, 0)
    torch.nn.init.constant_(ranker.head.bias, float("nan"))
    with pytest.raises(RecomindError, match="loss is NaN; got: epoch 0, batch 0"):
        fit_ranker(
            ranker, dataset, rows=dataset.rows("train"), calibration_rows=dataset.rows("test"),
            num_epochs=1, seed=0,
        )  # fmt: skip


def test_nothing_to_train_on_is_told():
    dataset = tiny_dataset()
    with pytest.raises(RecomindError, match="no training rows"):
        fit_ranker(
            new_ranker(dataset, RANKER, 0), dataset, rows=torch.zeros(0, dtype=torch.int64),
            calibration_rows=dataset.rows("test"), num_epochs=1, seed=0,
        )  # fmt: skip


# Calibration.


def fresh_calibration():
    ranker = copy.deepcopy(tiny_ranker(0))
    ranker.calibration_slope.fill_(1.0)
    ranker.calibration_offset.zero_()
    return ranker


def calibrated(ranker, logits):
    return logits * ranker.calibration_slope + ranker.calibration_offset


def ece(logits, labels):
    return calibration_curve(logits[:, 0].sigmoid(), labels[:, 0].bool())["ece"]


def test_calibration_mends_logits_that_are_off():
    true = 1.5 * torch.randn(20_000, 4, generator=make_generator(0)) - 0.5
    labels = (uniform(20_000, 4, seed=9) < true.sigmoid()).float()
    off, ranker = 2.5 * true + 1.0, fresh_calibration()
    calibrate(ranker, off, labels)
    assert ece(off, labels) > 0.05
    assert ece(calibrated(ranker, off), labels) < 0.012
    assert ranker.calibration_slope.tolist() == pytest.approx([0.4] * 4, abs=0.02)
    assert ranker.calibration_offset.tolist() == pytest.approx([-0.4] * 4, abs=0.05)


def test_calibrating_again_composes_and_finds_nothing_left():
    true = torch.randn(20_000, 4, generator=make_generator(0))
    labels = (uniform(20_000, 4, seed=9) < true.sigmoid()).float()
    ranker = fresh_calibration()
    calibrate(ranker, 3 * true - 1, labels)
    slope, offset = ranker.calibration_slope.clone(), ranker.calibration_offset.clone()
    calibrate(ranker, calibrated(ranker, 3 * true - 1), labels)
    assert torch.allclose(ranker.calibration_slope, slope, atol=1e-3)
    assert torch.allclose(ranker.calibration_offset, offset, atol=1e-3)


def test_few_labels_move_the_offset_and_labels_of_one_kind_nothing():
    logits, labels = torch.randn(5_000, 4, generator=make_generator(0)), torch.zeros(5_000, 4)
    labels[:30, 1] = 1.0
    labels[:, 2] = 1.0
    labels[:100, 3] = 1.0
    ranker = fresh_calibration()
    calibrate(ranker, logits, labels)
    slope, offset = ranker.calibration_slope, ranker.calibration_offset
    assert slope[:3].tolist() == [1.0, 1.0, 1.0]
    assert slope[3].item() != 1.0
    assert offset[[0, 2]].tolist() == [0.0, 0.0]
    mean = calibrated(ranker, logits)[:, 1].sigmoid().mean().item()
    assert mean == pytest.approx(30 / 5_000, rel=0.01)


# Quality.


def test_log_loss_is_in_nats():
    assert log_loss(torch.zeros(3, 2), torch.ones(3, 2)) == pytest.approx(math.log(2))


def test_quality_by_hand():
    logits = torch.tensor([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [-1.0, 4.0]])
    labels = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    metrics = quality(logits, labels, ["a", "b"])
    assert metrics["auc.a"] == pytest.approx(2 / 3)
    assert metrics["rate.a"] == 0.25
    assert not any(name.endswith(".b") for name in metrics)  # labels of one kind only
    p = logits[:, 0].double().sigmoid()
    assert metrics["ece.a"] == pytest.approx(float((p - labels[:, 0]).abs().mean()))


def test_calibration_error_of_a_constant_shift():
    observed = torch.tensor([False, True]).repeat(500)
    curve = calibration_curve(torch.full((1_000,), 0.7), observed, 15)
    assert curve["ece"] == pytest.approx(0.2, abs=0.02)
