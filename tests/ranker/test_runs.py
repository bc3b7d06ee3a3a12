"""Impressions scored run by run are those scored one by one."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
import torch

from recomind.ranker import new_ranker, predict
from recomind.ranker.dropout import BitDropout
from recomind.ranker.history import tallies, tallies_of_log
from recomind.ranker.loss import ImpressionLoss
from recomind.ranker.runs import order_by_runs, runs_of
from recomind.ranker.table_adam import TableAdam
from recomind.streams import make_generator
from tests.ranker.planted import dataset_of, planted_frame
from tests.simulation.tiny import RANKER, tiny_dataset

EXACT = replace(RANKER, dropout=0.0, id_dropout=0.0)


def two_sessions():
    """Logs in which every timeline has a second session from its fourth impression on."""
    frame, late = planted_frame(), pl.col("position") >= 3
    fresh = {
        "session_id": pl.col("session_id") + 100_000 * late,
        "position": pl.col("position") - 3 * late,
    }
    return dataset_of(frame.with_columns(**fresh))


def shaken(dataset, config):
    """A ranker in which every weight matters."""
    ranker = new_ranker(dataset, config, 0)
    generator = make_generator(1)
    with torch.no_grad():
        for weight in ranker.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)
    return ranker


def gradients(ranker, dataset, rows, run_length):
    ranker.config = replace(ranker.config, run_length=run_length)
    ranker.train().zero_grad()
    loss = ImpressionLoss(ranker)(dataset, rows)
    loss.backward()
    grads = {name: p.grad for name, p in ranker.named_parameters() if p.grad is not None}
    return loss.item(), {name: g.to_dense().clone() for name, g in grads.items()}


@pytest.mark.parametrize("run_length", [2, 8])
@pytest.mark.parametrize(
    "changes",
    [{}, {"recent_length": 5, "num_nearest": 40}, {"recent_length": 5, "num_nearest": 0}],
    ids=["recent alone", "old ones too", "no old ones"],
)
def test_runs_give_the_loss_and_the_gradients_of_rows(run_length, changes):
    dataset = two_sessions()
    ranker = shaken(dataset, replace(EXACT, **changes))
    rows = order_by_runs(dataset, dataset.rows("train"), run_length, make_generator(1))[:200]
    loss, ours = gradients(ranker, dataset, rows, run_length)
    expected, theirs = gradients(ranker, dataset, rows, 1)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-4, atol=1e-6), name


def test_runs_cross_sessions_and_count_an_event_as_of_the_session_for_each_impression():
    """Else the test above would not see events in both of their forms."""
    dataset = two_sessions()
    rows = dataset.rows("train")
    runs = runs_of(dataset, rows, 8)
    assert bool((runs.outside_SKE.any(1) & runs.inside_SKE.any(1)).any())
    inside = torch.zeros(len(rows), dtype=torch.int64)
    inside += runs.inside_SKE.flatten(0, 1)[runs.place_B].sum(1)
    state = dataset.state(rows)
    assert torch.equal(inside, state.in_session.sum(1))
    both = runs.inside_SKE | runs.outside_SKE
    assert torch.equal(both.flatten(0, 1)[runs.place_B].sum(1), state.history_mask.sum(1))


def test_predictions_are_those_of_rows_in_any_order():
    dataset = tiny_dataset()
    ranker = shaken(dataset, EXACT)
    rows = dataset.rows()[torch.randperm(len(dataset.rows()), generator=make_generator(0))[:500]]
    ours, labels = predict(ranker, dataset, rows)
    ranker.config = replace(ranker.config, run_length=1)
    theirs, same = predict(ranker, dataset, rows)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.equal(labels, same)


@pytest.mark.parametrize("length", [2, 14, 30])
def test_tallies_of_a_log_are_those_of_its_states(length):
    dataset = tiny_dataset().with_history(length)
    rows = torch.arange(len(dataset))
    before = rows - dataset.begin(rows)
    ours = tallies_of_log(dataset.labels(rows), dataset.dwell_s(rows), before, length)
    assert torch.allclose(ours, tallies(dataset.state(rows)), atol=1e-6)


def test_the_order_keeps_runs_together_and_mixes_sessions():
    dataset = tiny_dataset()
    rows = dataset.rows("train")
    one, two = (order_by_runs(dataset, rows, 4, make_generator(seed)) for seed in (0, 1))
    assert torch.equal(one.sort().values, rows)
    assert not torch.equal(one, two)
    runs = runs_of(dataset, one, 4)
    assert runs.num_runs == runs_of(dataset, rows, 4).num_runs < len(rows) / 2
    sessions = dataset.session_index(one[:32])
    assert len(sessions.unique()) > 6
    assert order_by_runs(dataset, rows[:0], 4, make_generator(0)).tolist() == []


def test_dropout_drops_the_share_it_is_told_and_keeps_the_mean():
    dropout, ones = BitDropout(0.3), torch.ones(400, 251)
    torch.manual_seed(0)
    out = dropout(ones)
    assert float((out == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)
    assert len(out.unique()) == 2
    assert not torch.equal(out, dropout(ones))
    torch.manual_seed(0)
    assert torch.equal(out, dropout(ones))
    assert torch.equal(dropout.eval()(ones), ones)


def test_tables_move_as_with_sparse_adam():
    tables = [torch.nn.Parameter(torch.ones(9, 3)) for _ in range(2)]
    optimizers = [TableAdam([tables[0]], lr=0.1), torch.optim.SparseAdam([tables[1]], lr=0.1)]
    for index in ([0, 3, 3, 8], [3, 1], [0, 0, 0]):
        for table, optimizer in zip(tables, optimizers, strict=True):
            rows = torch.nn.functional.embedding(torch.tensor(index), table, sparse=True)
            optimizer.zero_grad()
            (rows * torch.arange(3.0)).square().sum().backward()
            optimizer.step()
    assert torch.allclose(tables[0], tables[1], atol=1e-6)
    assert bool((tables[0][[2, 4, 5, 6, 7]] == 1.0).all())
