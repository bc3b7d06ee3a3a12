"""Predictions over logged impressions, by row, by batch and by block."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from recomind.ranker import log_loss, predict, predict_blocks, prediction
from tests.ranker.planted import stream
from tests.simulation.tiny import tiny_dataset, tiny_ranker


def later(block):
    return block.rows("calibration", holdout=False)


def test_rows_are_predicted_as_they_would_be_one_by_one():
    dataset, ranker = tiny_dataset(), tiny_ranker(0)
    rows = dataset.rows("test")[:20]
    logits, labels = predict(ranker, dataset, rows)
    assert torch.equal(labels, dataset.labels(rows))
    for index, row in enumerate(rows[:, None]):
        with torch.no_grad():
            encoding = ranker.encode_state(dataset.state(row), dataset.snapshot(row))
            one = ranker.score(encoding, dataset.item_id(row)[None], dataset.snapshot(row)[None])
        assert torch.allclose(one[0, 0], logits[index], atol=1e-5)


def test_the_size_of_batches_does_not_matter(monkeypatch):
    dataset, ranker = tiny_dataset(), tiny_ranker(0)
    rows = dataset.rows("test")[:90]
    whole = predict(ranker, dataset, rows)[0]
    monkeypatch.setattr(prediction, "_BATCH_ROWS", 40)
    assert torch.allclose(predict(ranker, dataset, rows)[0], whole, atol=1e-5)


def test_dropout_is_off_and_no_gradient_is_kept():
    dataset, ranker = tiny_dataset(), copy.deepcopy(tiny_ranker(0)).train()
    rows = dataset.rows("test")[:30]
    logits = predict(ranker, dataset, rows)[0]
    assert torch.equal(logits, predict(ranker.train(), dataset, rows)[0])
    assert not logits.requires_grad


def test_no_rows():
    dataset, ranker = tiny_dataset(), tiny_ranker(0)
    logits, labels = predict(ranker, dataset, torch.zeros(0, dtype=torch.int64))
    assert logits.shape == labels.shape == (0, 4)
    logits, labels = predict_blocks(ranker, dataset, lambda block: block.rows()[:0])
    assert logits.shape == labels.shape == (0, 4)


class TwoTasks:
    """A ranker of two of the log's tasks, in another order."""

    tasks: tuple[str, ...] = ("hide", "watch_10s")

    def encode_state(self, state, snapshot=None):
        return state.step

    def score(self, encoding, item_id, snapshot=None):
        return torch.stack([encoding[:, None].float(), item_id.float()], dim=-1)


def test_columns_are_the_rankers_tasks():
    dataset = tiny_dataset()
    rows = dataset.rows("test")
    logits, labels = predict(TwoTasks(), dataset, rows)
    assert torch.equal(labels, dataset.labels(rows)[:, [3, 0]])
    assert torch.equal(logits[:, 0], dataset.position(rows).float())
    assert torch.equal(logits[:, 1], dataset.item_id(rows).float())


def test_blocks_together_are_the_whole_log(tmp_path):
    dataset, blocks, ranker = tiny_dataset(), stream(tmp_path), tiny_ranker(0)
    assert len(list(blocks.blocks())) > 4
    logits, labels = predict_blocks(ranker, blocks, later)
    expected = predict(ranker, dataset, later(dataset))
    assert torch.equal(labels, expected[1])
    assert torch.allclose(logits, expected[0], atol=1e-5)


def test_a_judgement_looks_at_so_many_rows_of_all_blocks(tmp_path, monkeypatch):
    dataset, blocks, num = tiny_dataset(), stream(tmp_path), 101
    monkeypatch.setattr(prediction, "_MAX_ROWS", num)
    logits, labels = predict_blocks(TwoTasks(), blocks, later)
    assert num / 2 < len(logits) <= num < len(later(dataset))
    shown = dataset.item_id(later(dataset)).tolist()
    kept, place = logits[:, 1].long().tolist(), -1
    for item_id in kept:  # in the order of the log, and to its end
        place = shown.index(item_id, place + 1)
    assert place > 0.8 * len(shown)
    assert len(labels) == len(logits)


def test_log_loss_is_in_nats():
    assert log_loss(torch.zeros(3, 2), torch.ones(3, 2)) == pytest.approx(math.log(2))
    assert log_loss(torch.full((4, 1), 50.0), torch.zeros(4, 1)) == pytest.approx(50.0)
