"""Updates as a device gets them, on the processor: the same as its own, skips, and roundings."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from recomind.device_settings import MatmulPrecision
from recomind.errors import RecomindError
from recomind.ranker import fit_ranker, new_ranker
from recomind.ranker.averaging import WeightAverage
from recomind.ranker.loss import ImpressionLoss
from recomind.ranker.run_batch import batches_ahead, run_batch
from recomind.ranker.table_adam import TableAdam
from recomind.ranker.training import make_optimizers, training_rows
from recomind.ranker.updates import DeviceUpdates
from recomind.streams import make_generator
from tests.ranker.test_runs import EXACT
from tests.simulation.tiny import tiny_dataset


class QueuedAdam(TableAdam):
    """Takes the way of a device on the processor."""

    def _update(self, table, grad, group):
        state = self.state[table]
        if not state:
            state["step"] = 0
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(table) for _ in range(2))
        state["step"] += 1
        first, second = group["betas"]
        corrected = (1 - second ** state["step"]) ** 0.5 / (1 - first ** state["step"])
        self._queue(table, grad, group, group["lr"] * corrected)


def updates_of(ranker):
    optimizers = make_optimizers(ranker, ranker.config)
    optimizers[1] = QueuedAdam(optimizers[1].param_groups, lr=ranker.config.learning_rate)
    dense = [p for group in optimizers[0].param_groups for p in group["params"]]
    return DeviceUpdates(
        ImpressionLoss(ranker), optimizers, dense, WeightAverage(dense, 0.0), max_norm=1.0
    )


def rows_of(num=96):
    return training_rows(tiny_dataset())[:num]


def everything(ranker, updates):
    """Copies of weights and moments."""
    found = [value.clone() for value in ranker.state_dict().values()]
    for optimizer in updates.optimizers:
        for moments in optimizer.state.values():
            found += [v.clone() for v in moments.values() if torch.is_tensor(v) and v.dim()]
    return found


def same(one, two):
    return all(torch.equal(ours, theirs) for ours, theirs in zip(one, two, strict=True))


@pytest.mark.parametrize("lookups", [[3, 1, 3, 3, 0], [2], []])
def test_rows_are_added_up_without_waiting_for_how_many_differ(lookups):
    generator = make_generator(0)
    start = torch.randn(5, 4, generator=generator)
    tables = [nn.Parameter(start.clone()) for _ in range(2)]
    optimizers = [
        kind([table], lr=0.1) for kind, table in zip((TableAdam, QueuedAdam), tables, strict=True)
    ]
    for _ in range(3):
        weights = torch.randn(len(lookups), 4, generator=generator)
        for table, optimizer in zip(tables, optimizers, strict=True):
            looked_up = nn.functional.embedding(torch.tensor(lookups).long(), table, sparse=True)
            optimizer.zero_grad()
            (looked_up * weights).sum().backward()
            optimizer.step()
    assert torch.allclose(tables[0], tables[1], atol=1e-6)
    moved = (tables[1] != start).any(1)
    assert moved.nonzero()[:, 0].tolist() == sorted(set(lookups))


def test_a_device_learns_what_the_processor_learns(monkeypatch):
    """Both ways of `fit_ranker`, without dropout, whose masks a device draws itself."""
    dataset, config = tiny_dataset(), replace(EXACT, average_rate=0.1)
    one = fit_ranker(new_ranker(dataset, config, 0), dataset, num_epochs=1, seed=0)
    monkeypatch.setattr("recomind.ranker.training.device_of", lambda _: torch.device("meta"))
    monkeypatch.setattr("recomind.ranker.updates._READ_EVERY", 10)
    losses = []
    two = fit_ranker(
        new_ranker(dataset, config, 0),
        dataset,
        num_epochs=1,
        seed=0,
        progress=lambda share, loss: losses.append(loss),
    )
    for (name, ours), theirs in zip(
        two.state_dict().items(), one.state_dict().values(), strict=True
    ):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4), name
    assert len(set(losses)) == 1 + len(losses) // 10 > 1  # read at times only
    assert all(0 < loss < 2 for loss in losses)


@pytest.mark.parametrize("name", ["items.tables", "head.weight"])
def test_what_is_not_finite_is_counted_and_never_applied(name, caplog):
    ranker = new_ranker(tiny_dataset(), replace(EXACT, precision=MatmulPrecision.bf16), 0)
    updates, rows = updates_of(ranker), rows_of()
    updates.queue(tiny_dataset(), rows, None)
    before = everything(ranker, updates)
    hooks = [
        p.register_hook(lambda grad: grad * torch.inf)
        for n, p in ranker.named_parameters()
        if n.startswith(name)
    ]
    assert hooks
    updates.queue(tiny_dataset(), rows, None)
    assert same(everything(ranker, updates), before)
    for hook in hooks:
        hook.remove()
    updates.queue(tiny_dataset(), rows, None)
    assert not same(everything(ranker, updates), before)
    assert math.isfinite(updates.read())
    updates.num_updates = 3
    with caplog.at_level(logging.WARNING):
        updates.tell_skipped()
    assert "1 of 3 updates of the ranker were not finite in bf16, and not applied" in caplog.text


def test_training_stops_at_a_loss_that_is_not_finite_in_float32(monkeypatch):
    dataset = tiny_dataset()
    ranker = new_ranker(dataset, EXACT, 0)
    with torch.no_grad():
        ranker.head.bias.fill_(torch.nan)
    monkeypatch.setattr("recomind.ranker.training.device_of", lambda _: torch.device("meta"))
    with pytest.raises(RecomindError, match="the loss is not finite; got: nan at epoch 1, block 1"):
        fit_ranker(ranker, dataset, num_epochs=1, seed=0)


def test_training_in_bf16_stops_where_nothing_is_finite():
    ranker = new_ranker(tiny_dataset(), replace(EXACT, precision=MatmulPrecision.bf16), 0)
    with torch.no_grad():
        ranker.head.bias.fill_(torch.nan)
    updates = updates_of(ranker)
    assert math.isnan(updates(tiny_dataset(), rows_of(), None))


def test_a_batch_that_does_not_fit_names_the_size_that_does(monkeypatch):
    ranker = new_ranker(tiny_dataset(), EXACT, 0)
    updates = updates_of(ranker)
    forward = updates.loss.forward

    def filled(dataset, rows):
        if len(rows) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(dataset, rows)

    monkeypatch.setattr(updates.loss, "forward", filled)
    before = everything(ranker, updates)
    with pytest.raises(RecomindError, match=r"=96: CUDA out .*; to mend: set ranker.batch_size=24"):
        updates(tiny_dataset(), rows_of(96), None)
    assert same(everything(ranker, updates), before)


@pytest.mark.parametrize("changes", [{}, {"recent_length": 5, "num_nearest": 4}, {"run_length": 1}])
def test_bf16_stays_near_float32(changes):
    """By autocast on the processor, which casts the same operations as that on CUDA."""
    losses = []
    for precision in (MatmulPrecision.full, MatmulPrecision.bf16):
        config = replace(EXACT, precision=precision, **changes)
        updates = updates_of(new_ranker(tiny_dataset(), config, 0))
        for _ in range(3):
            updates.queue(tiny_dataset(), rows_of(), None)
        losses.append(updates.read())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_batches_are_gathered_ahead_in_order():
    dataset, parts = tiny_dataset(), rows_of(100).split(32)
    gathered = list(batches_ahead(dataset, parts, 8, dataset.catalogue))
    assert [rows.tolist() for rows, _ in gathered] == [part.tolist() for part in parts]
    for rows, batch in gathered:
        assert torch.equal(batch.labels, dataset.labels(rows))
        assert torch.equal(
            batch.runs.place_B, run_batch(dataset, rows, 8, dataset.catalogue).runs.place_B
        )
    assert list(batches_ahead(dataset, [], 8, dataset.catalogue)) == []
