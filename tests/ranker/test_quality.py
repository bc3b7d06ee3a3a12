"""Figures of quality against scikit-learn and against loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from recomind.ranker import grouped_auc, predict, quality, quality_report, report_groups
from recomind.streams import make_generator
from tests.simulation.tiny import NUM_ITEMS, tiny_dataset, tiny_ranker


def made(num, seed=0, num_levels=None):
    """Logits and labels [num, 2]; few different logits where `num_levels` is given."""
    generator = make_generator(seed)
    logits = 2 * torch.randn(num, 2, generator=generator)
    if num_levels:
        logits = (logits * num_levels).round() / num_levels
    labels = (torch.rand(num, 2, generator=generator) < logits.sigmoid()).float()
    return logits, labels


def test_quality_by_hand():
    logits = torch.tensor([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [-1.0, 4.0]])
    labels = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    metrics = quality(logits, labels, ["a", "b"])
    assert metrics["auc.a"] == pytest.approx(2 / 3)
    assert metrics["rate.a"] == 0.25
    assert not any(name.endswith(".b") for name in metrics)  # labels of one kind only
    p = logits[:, 0].double().sigmoid()
    assert metrics["ece.a"] == pytest.approx(float((p - labels[:, 0]).abs().mean()))


@pytest.mark.parametrize("num_levels", [None, 2])
def test_quality_equals_scikit_learn(num_levels):
    logits, labels = made(700, num_levels=num_levels)
    metrics = quality(logits, labels, ["a", "b"])
    for column, task in enumerate("ab"):
        p, y = logits[:, column].double().sigmoid().numpy(), labels[:, column].numpy()
        assert metrics[f"auc.{task}"] == pytest.approx(roc_auc_score(y, p), abs=1e-6)
        assert metrics[f"log_loss.{task}"] == pytest.approx(sklearn_log_loss(y, p), abs=1e-6)
        assert metrics[f"rate.{task}"] == pytest.approx(y.mean())
        assert metrics[f"ece.{task}"] == pytest.approx(equal_counts_ece(p, y))
        assert metrics[f"ece_equal_width.{task}"] == pytest.approx(equal_width_ece(p, y), abs=1e-6)


def equal_counts_ece(p, y):
    parts = np.array_split(np.argsort(p, kind="stable"), 15)
    return sum(abs(p[part].mean() - y[part].mean()) * len(part) for part in parts) / len(p)


def equal_width_ece(p, y):
    edges, total = np.linspace(0, 1, 16), 0.0
    for low, high in itertools.pairwise(edges):
        part = (p > low) & (p <= high)
        if part.any():
            total += abs(p[part].mean() - y[part].mean()) * part.sum()
    return total / len(p)


def test_certain_predictions_have_a_finite_log_loss():
    logits = torch.tensor([[200.0], [-200.0], [-200.0]])
    labels = torch.tensor([[1.0], [0.0], [1.0]])
    loss = quality(logits, labels, ["a"])["log_loss.a"]
    assert loss == pytest.approx(-math.log(1e-7) / 3, rel=1e-4)


def test_no_rows_have_no_quality():
    assert quality(torch.zeros(0, 1), torch.zeros(0, 1), ["a"]) == {}


def grouped_auc_by_loop(score, label, group):
    total, num = 0.0, 0
    for one in group.unique():
        rows = group == one
        if 0 < label[rows].sum() < rows.sum():
            total += roc_auc_score(label[rows], score[rows]) * int(rows.sum())
            num += int(rows.sum())
    return total / num if num else None


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num=st.integers(1, 120),
    num_groups=st.integers(1, 12),
    num_levels=st.sampled_from([1, 2, 50]),
)
def test_gauc_equals_a_loop_over_users(seed, num, num_groups, num_levels):
    logits, labels = made(num, seed, num_levels)
    group = torch.randint(-3, num_groups, (num,), generator=make_generator(seed + 1))
    score, label = logits[:, 0], labels[:, 0]
    expected = grouped_auc_by_loop(score, label, group)
    got = grouped_auc(score, label, group)
    assert (got is None) == (expected is None)
    assert got is None or got == pytest.approx(expected, abs=1e-9)


def test_gauc_of_users_of_one_kind_is_none():
    assert (
        grouped_auc(torch.randn(4), torch.tensor([1.0, 1, 0, 0]), torch.tensor([3, 3, 9, 9]))
        is None
    )


def test_gauc_does_not_see_differences_between_users():
    """User 1 is liked more and scored more; inside either user the order is wrong."""
    score = torch.tensor([0.1, 0.2, 0.8, 0.9])
    label, user = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([0, 0, 1, 1])
    assert grouped_auc(score, label, user) == 0.0
    assert grouped_auc(score, label, torch.zeros(4)) == 0.25


def test_a_report_holds_gauc_and_the_auc_of_each_group():
    logits, labels = made(600)
    user = torch.arange(600) % 20
    groups = {
        "user": user,
        "large": torch.arange(600) < 400,
        "small": torch.arange(600) >= 560,
        "none": torch.zeros(600, dtype=torch.bool),
    }
    report = quality_report(logits, labels, ["a", "b"], groups)
    assert quality(logits, labels, ["a", "b"]).items() <= report.items()
    for column, task in enumerate("ab"):
        y, x = labels[:, column], logits[:, column]
        assert report[f"gauc.{task}"] == pytest.approx(grouped_auc_by_loop(x, y, user))
        assert report[f"auc.{task}.large"] == pytest.approx(roc_auc_score(y[:400], x[:400]))
        assert f"auc.{task}.small" not in report  # 40 rows have no 30 labels of both kinds
        assert f"auc.{task}.none" not in report
        assert f"auc.{task}.user" not in report


def test_the_groups_of_a_log():
    dataset = tiny_dataset()
    rows = dataset.rows("test")
    seen = torch.arange(NUM_ITEMS) % 4 != 0
    groups = report_groups(dataset, rows, seen)
    assert torch.equal(groups["user"], dataset.user_id(rows))
    assert torch.equal(groups["new_items"], dataset.item_id(rows) % 4 == 0)
    assert torch.equal(groups["known_items"], ~groups["new_items"])
    place = dataset.position(rows)
    for name, places in {"1": [0], "2": [1], "3-5": [2, 3, 4], "6+": range(5, 40)}.items():
        expected = torch.tensor([int(p) in places for p in place])
        assert torch.equal(groups[f"position.{name}"], expected)
        assert bool(expected.any())


def test_a_fitted_ranker_orders_better_than_chance_in_every_figure():
    dataset = tiny_dataset()
    rows = dataset.rows("test")
    seen = torch.zeros(NUM_ITEMS, dtype=torch.bool)
    seen[dataset.item_id(dataset.rows("train"))] = True
    ranker = tiny_ranker(0)
    logits, labels = predict(ranker, dataset, rows)
    report = quality_report(logits, labels, ranker.tasks, report_groups(dataset, rows, seen))
    for name in ("auc.watch_10s", "gauc.watch_10s", "auc.watch_10s.known_items"):
        assert report[name] > 0.55
    assert report["ece.watch_10s"] < 0.1
