"""Fitting finds what is there, keeps the best of it, and tells what cannot be done."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
import torch

from recomind.errors import ConfigError, RecomindError, SchemaError
from recomind.ranker import (
    fit_ranker,
    later_rows,
    log_loss,
    new_ranker,
    predict,
    quality,
    training_rows,
)
from recomind.ranker.training import by_session
from recomind.streams import make_generator
from simulators.video_feed.world import TASKS
from tests.ranker.planted import (
    QUICK,
    dataset_of,
    even_topic,
    planted_dataset,
    planted_frame,
    stream,
)
from tests.simulation.tiny import RANKER, tiny_dataset


def no_rows(block):
    return block.rows()[:0]


def all_training_rows(block):
    return block.rows("train")


def fit(source, seed=0, num_epochs=1, **changes):
    return fit_ranker(
        new_ranker(source, replace(RANKER, **changes), seed),
        source,
        num_epochs=num_epochs,
        seed=seed,
    )


def same(one, two):
    ours, theirs = one.state_dict(), two.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in ours.items())


def test_a_planted_signal_is_found():
    dataset = planted_dataset()
    rows = dataset.rows("test")
    untrained = quality(*predict(new_ranker(dataset, QUICK, 0), dataset, rows), TASKS)
    ranker = fit_ranker(
        new_ranker(dataset, QUICK, 0), dataset, num_epochs=4, seed=0, rows=all_training_rows
    )
    trained = quality(*predict(ranker, dataset, rows), TASKS)
    assert trained["auc.watch_10s"] > 0.9 > untrained["auc.watch_10s"]
    assert trained["log_loss.watch_10s"] < 0.35
    assert trained["ece.watch_10s"] < 0.1


def test_same_seed_same_ranker_and_the_global_generator_is_left_alone():
    dataset = tiny_dataset()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two, other = (fit(dataset, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(one, two)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert not one.training
    assert one.table is not None


def test_only_the_given_rows_are_trained_on():
    """Ids that never appear keep their row of the table."""
    dataset = tiny_dataset()
    rows = dataset.rows("train")[:20]
    ranker = new_ranker(dataset, replace(RANKER, id_buckets=300, hash_ids=False), 0)
    weights = dict(ranker.items.named_parameters())
    weight = weights["tables.embedding_bags.table_feature_0.weight"]
    before = weight.detach().clone()
    fit_ranker(
        ranker,
        dataset,
        num_epochs=2,
        seed=0,
        rows=lambda block: rows,
        calibration_rows=no_rows,
    )
    moved = (weight != before).any(1).nonzero()[:, 0].tolist()
    state = dataset.state(rows)
    there = [dataset.item_id(rows), state.history_item_id[state.history_mask], torch.tensor([0])]
    assert set(moved) <= set(torch.cat(there).tolist())
    assert len(moved) > 10


def test_every_weight_learns():
    """But for the projection of the Next Action Loss, which has its own test."""
    dataset = tiny_dataset()
    ranker = new_ranker(dataset, replace(RANKER, recent_length=5), 0)
    before = {k: v.clone() for k, v in ranker.state_dict().items()}
    fit_ranker(ranker, dataset, num_epochs=1, seed=0, calibration_rows=no_rows)
    learn = {name for name, _ in ranker.named_parameters()}
    still = {k for k, v in ranker.state_dict().items() if torch.equal(v, before[k])} & learn
    assert still == {"next_action.weight", "next_action.bias"}


def test_a_short_log_has_as_many_updates_as_asked_for():
    dataset = tiny_dataset()
    num_rows = dataset.num_rows("train", holdout=False)

    def updates(**changes):
        losses = []
        fit_ranker(
            new_ranker(dataset, replace(RANKER, batch_size=4096, **changes), 0),
            dataset,
            num_epochs=1,
            seed=0,
            progress=lambda share, loss: losses.append(loss),
        )
        return len(losses)

    assert num_rows < 4096
    assert updates() == 1
    assert updates(epoch_updates=10) == -(-num_rows // (num_rows // 10)) >= 10
    # Not below sixteen impressions a batch, however many updates are asked for.
    assert updates(epoch_updates=10**6) == -(-num_rows // 16)


def test_fresh_rows_of_ids_are_as_large_as_asked_for():
    dataset = tiny_dataset()
    for scale in (0.01, 1.0):
        ranker = new_ranker(dataset, replace(RANKER, id_scale=scale), 0)
        weight = dict(ranker.items.named_parameters())[
            "tables.embedding_bags.table_feature_0.weight"
        ]
        assert float(weight.detach().std()) == pytest.approx(scale, rel=0.1)
    with pytest.raises(ConfigError, match="id_scale must be positive"):
        replace(RANKER, id_scale=0.0)


def test_the_best_weights_are_kept():
    """Rows that contradict the training rows are predicted worse and worse, but for luck."""
    dataset = planted_dataset()
    odd = dataset.rows("calibration")
    against = odd[dataset.labels(odd)[:, 0] != even_topic(dataset.item_id(odd))]
    ranker, losses, heads = new_ranker(dataset, QUICK, 0), [], []

    def watch(block):
        losses.append(log_loss(*predict(ranker, dataset, against)))
        heads.append(ranker.head.weight.detach().clone())
        return against

    fit_ranker(
        ranker, dataset, num_epochs=3, seed=0, rows=all_training_rows, calibration_rows=watch
    )
    judged = losses[:-1]  # the last time is for calibration
    best = judged.index(min(judged))
    assert len(judged) == 3 * RANKER.checks_per_epoch
    assert best < len(judged) - 2
    assert torch.equal(ranker.head.weight, heads[best])
    assert torch.equal(ranker.head.weight, heads[-1])
    assert not torch.equal(heads[-2], heads[-1])


@pytest.mark.parametrize(("patience", "num_epochs"), [(1, 2), (3, 4)])
def test_training_stops_where_later_days_stop_getting_better(patience, num_epochs):
    dataset = planted_dataset()
    odd = dataset.rows("calibration")
    against = odd[dataset.labels(odd)[:, 0] != even_topic(dataset.item_id(odd))]
    config = replace(QUICK, patience=patience, checks_per_epoch=1)
    ranker, losses, shares = new_ranker(dataset, config, 0), [], []

    def watch(block):
        losses.append(log_loss(*predict(ranker, dataset, against)))
        return against

    fit_ranker(
        ranker,
        dataset,
        num_epochs=16,
        seed=0,
        rows=all_training_rows,
        calibration_rows=watch,
        progress=lambda share, loss: shares.append(share),
    )
    best = losses.index(min(losses))
    assert len(losses) - 1 == best + 1 + patience  # and once more to calibrate
    assert len(losses) - 1 < 16
    assert shares[-1] == pytest.approx((best + 1 + patience) / 16)
    assert num_epochs <= best + 1 + patience


def test_without_later_days_the_last_weights_are_kept_uncalibrated():
    dataset = tiny_dataset()
    ranker, heads = new_ranker(dataset, RANKER, 0), []
    fit_ranker(
        ranker,
        dataset,
        num_epochs=2,
        seed=0,
        calibration_rows=no_rows,
        progress=lambda *_: heads.append(ranker.head.weight.detach().clone()),
    )
    assert torch.equal(ranker.head.weight, heads[-1])
    assert bool((ranker.calibration.slope == 1.0).all())


def test_averaged_weights_are_the_mean_of_what_they_were(monkeypatch):
    monkeypatch.setattr("recomind.ranker.training._AVERAGED_PARTS", 0)  # no bound on its length
    dataset = tiny_dataset()
    ranker, heads = new_ranker(dataset, replace(RANKER, average_rate=1e-6), 0), []
    fit_ranker(
        ranker,
        dataset,
        num_epochs=1,
        seed=0,
        calibration_rows=no_rows,
        progress=lambda *_: heads.append(ranker.head.weight.detach().clone()),
    )
    assert len(heads) > 10
    assert torch.allclose(ranker.head.weight, torch.stack(heads).mean(0), atol=1e-5)


def test_progress_tells_the_share_that_is_done():
    dataset, told = tiny_dataset(), []
    fit_ranker(
        new_ranker(dataset, RANKER, 0),
        dataset,
        num_epochs=2,
        seed=0,
        calibration_rows=no_rows,
        progress=lambda *event: told.append(event),
    )
    num = len(training_rows(dataset))
    ends = [min(num, (batch + 1) * 32) / num / 2 for batch in range(-(-num // 32))]
    assert [share for share, _ in told] == pytest.approx(ends + [0.5 + end for end in ends])
    assert all(0 < loss < 2 for _, loss in told)


def test_progress_over_blocks_never_goes_back(tmp_path):
    blocks, shares = stream(tmp_path), []
    fit_ranker(
        new_ranker(blocks, RANKER, 0),
        blocks,
        num_epochs=2,
        seed=0,
        calibration_rows=no_rows,
        progress=lambda share, _: shares.append(share),
    )
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert len(set(shares)) == len(shares)


def test_the_learning_rate_makes_one_cycle(monkeypatch):
    """Warm-up until .3 of the training, then down to nearly nothing."""
    dataset, rates = tiny_dataset(), []
    step = torch.optim.AdamW.step

    def watched(self, *arguments):
        rates.append([group["lr"] for group in self.param_groups])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    fit(dataset, num_epochs=3, wide_rate=3.0)
    deep = [rate for rate, _ in rates]
    top = deep.index(max(deep))
    assert max(deep) == pytest.approx(RANKER.learning_rate, rel=0.02)
    assert top / len(deep) == pytest.approx(0.3, abs=0.03)
    assert deep[0] == pytest.approx(0.04 * RANKER.learning_rate)
    assert deep[-1] < 0.01 * RANKER.learning_rate
    assert deep == sorted(deep[: top + 1]) + sorted(deep[top + 1 :], reverse=True)
    assert [wide for _, wide in rates] == pytest.approx([3.0 * rate for rate in deep])


def test_blocks_find_what_is_planted_too(tmp_path):
    whole, blocks = tiny_dataset(), stream(tmp_path)
    assert len(list(blocks.blocks())) > 4
    rows = whole.rows("test")
    untrained = log_loss(*predict(new_ranker(whole, RANKER, 0), whole, rows))
    fitted = log_loss(*predict(fit(blocks, num_epochs=4), whole, rows))
    at_once = log_loss(*predict(fit(whole, num_epochs=4), whole, rows))
    assert fitted < untrained - 0.2
    assert fitted == pytest.approx(at_once, abs=0.03)


def test_blocks_without_training_rows_are_passed_over(tmp_path):
    """As where a block holds hold-out users or later days alone."""
    blocks, losses, empty = stream(tmp_path), [], []

    def rows(block):
        chosen = training_rows(block)
        chosen = chosen[block.user_id(chosen) % 7 < 2] if len(empty) % 2 else chosen[:0]
        empty.append(len(chosen) == 0)
        return chosen

    fit_ranker(
        new_ranker(blocks, RANKER, 0),
        blocks,
        num_epochs=1,
        seed=0,
        rows=rows,
        progress=lambda _, loss: losses.append(loss),
    )
    assert True in empty
    assert False in empty
    assert all(0 < loss < 2 for loss in losses)


def test_users_without_any_history_are_trained_on():
    frame = planted_frame().filter(pl.col("position") >= 0)
    alone = dataset_of(frame.with_columns(history_id=pl.int_range(pl.len(), dtype=pl.Int64)))
    assert not bool(alone.state(alone.rows()).history_mask.any())
    ranker = fit_ranker(
        new_ranker(alone, replace(QUICK, next_action_weight=0.5), 0),
        alone,
        num_epochs=4,
        seed=0,
        rows=all_training_rows,
    )
    assert all(bool(p.isfinite().all()) for p in ranker.parameters())
    metrics = quality(*predict(ranker, alone, alone.rows("test")), TASKS)
    assert metrics["auc.watch_10s"] > 0.85


def test_a_task_of_one_class_with_a_weight_is_refused():
    for value, got in ((0, "0 ones"), (1, "0 zeros")):
        constant = pl.lit(value, dtype=pl.UInt8).alias("hide")
        dataset = dataset_of(planted_frame().with_columns(constant))
        fit(dataset, utility_weights={"watch_10s": 1.0})
        fit(dataset, utility_weights={"watch_10s": 1.0, "hide": 0.0})
        with pytest.raises(SchemaError, match=f"'hide' is one class only.*{got}.*leave it out"):
            fit(dataset, utility_weights={"watch_10s": 1.0, "hide": -1.0})


def test_a_weight_of_an_unknown_task_is_refused():
    with pytest.raises(ConfigError, match=r"task that the log does not have; got: \['wach_10s'\]"):
        fit(tiny_dataset(), utility_weights={"wach_10s": 1.0})


def test_nothing_to_train_on_is_told():
    dataset = tiny_dataset()
    with pytest.raises(RecomindError, match="no training rows"):
        fit_ranker(new_ranker(dataset, RANKER, 0), dataset, num_epochs=1, seed=0, rows=no_rows)
    nothing = planted_frame().with_columns(split=pl.lit("test"))
    with pytest.raises(RecomindError, match="no training rows; to mend: check the splits"):
        new_ranker(dataset_of(nothing), RANKER, 0)


def test_features_are_binned_on_training_rows_alone():
    dataset = tiny_dataset()
    shown = dataset.item_id(training_rows(dataset))
    content = dataset.catalogue.features(shown, dataset.snapshot(training_rows(dataset))).dense
    numbers = new_ranker(dataset, RANKER, 0).items.numbers
    assert torch.allclose(numbers.mean, content.mean(0), atol=1e-4)
    assert torch.allclose(numbers.low[:, 0], content.amin(0))
    everything = dataset.catalogue.features(torch.arange(dataset.catalogue.num_items)).dense
    assert not torch.allclose(numbers.mean, everything.mean(0), atol=1e-4)


def test_hold_out_users_and_later_days_are_not_trained_on():
    dataset = tiny_dataset()
    for rows, split in ((training_rows(dataset), "train"), (later_rows(dataset), "calibration")):
        assert torch.equal(rows, dataset.rows(split, holdout=False))
        assert len(rows) < dataset.num_rows(split)


def test_batches_hold_whole_sessions_in_another_order_each_time():
    dataset = tiny_dataset()
    rows = training_rows(dataset)
    one, two = (by_session(dataset, rows, make_generator(seed)) for seed in (0, 1))
    assert torch.equal(one.sort().values, rows)
    sessions = dataset.session_index(one)
    assert len(torch.unique_consecutive(sessions)) == len(sessions.unique()) > 50
    assert not torch.equal(one, two)
    assert torch.equal(by_session(dataset, rows, make_generator(0)), one)


@pytest.mark.parametrize("shared", [False, True])
def test_sessions_share_their_events_only_where_that_is_asked_for(shared):
    dataset, encoded = tiny_dataset(), []
    config = replace(RANKER, session_batches=shared, run_length=1, batch_size=256)
    ranker = new_ranker(dataset, config, 0)
    ranker.events.register_forward_hook(lambda _, __, out: encoded.append(out[..., 0].numel()))
    fit_ranker(ranker, dataset, num_epochs=1, seed=0, calibration_rows=lambda b: b.rows()[:0])
    whole = 256 * config.history_length
    assert (max(encoded) < whole / 2) == shared
    assert (whole in encoded) == (not shared)
