"""A training that was killed ends as if it had not been; one that fails leaves what was good."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch

from recomind.artifacts import load_tensors
from recomind.errors import ArtifactError, RecomindError
from recomind.ranker import fit_ranker, later_rows, new_ranker
from recomind.ranker.averaging import WeightAverage
from recomind.ranker.checkpoint import Checkpoint
from recomind.ranker.training import make_optimizers
from tests.ranker.planted import stream
from tests.simulation.tiny import RANKER, tiny_dataset

EPOCHS = 2
CONFIG = replace(
    RANKER,
    average_rate=0.05,
    next_action_weight=0.1,
    batch_size=28,
    wide_rate=2.0,
    checks_per_epoch=1,
)


class Killed(Exception):
    pass


@cache
def blocks():
    return stream(Path(mkdtemp()), max_block_events=1000)


def fresh(**changes):
    return new_ranker(blocks(), replace(CONFIG, **changes), 0)


def fit(ranker, path=None, progress=None, **changes):
    settings: dict[str, Any] = {"num_epochs": EPOCHS, "seed": 3} | changes
    return fit_ranker(ranker, blocks(), progress=progress, checkpoint=path, **settings)


@cache
def uninterrupted():
    """The weights at the end, and the shares that were told."""
    told = []
    ranker = fit(fresh(), progress=lambda *event: told.append(event))
    return ranker.state_dict(), told


def killed_after(path, num_updates, **changes):
    told = []

    def progress(*event):
        told.append(event)
        if len(told) == num_updates:
            raise Killed

    with pytest.raises(Killed):
        fit(fresh(), path, progress, **changes)


def place(path):
    """Epoch and block that training goes on with."""
    return load_tensors(path, finite=False)["place"].tolist()[:2]


def assert_same(tensors, expected):
    assert tensors.keys() == expected.keys()
    differing = [name for name, value in tensors.items() if not torch.equal(value, expected[name])]
    assert differing == []


def test_the_log_has_blocks_and_updates_enough_for_what_follows():
    assert len(list(blocks().blocks())) > 4
    assert len(uninterrupted()[1]) > 40


@pytest.mark.parametrize("share", [0.25, 0.51, 0.99])
def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(tmp_path, share):
    path, (expected, told) = tmp_path / "run" / "member.safetensors", uninterrupted()
    killed_after(path, int(share * len(told)))
    epoch, block = place(path)
    assert (epoch, block) != (0, 0)
    rest = []
    ranker = fit(fresh(), path, lambda *event: rest.append(event))
    assert_same(ranker.state_dict(), expected)
    assert 0 < len(rest) < len(told) * (1 - share) + 8
    assert rest == told[-len(rest) :]  # the same losses at the same shares
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


def test_a_training_may_be_killed_many_times(tmp_path):
    path, (expected, _told) = tmp_path / "member.safetensors", uninterrupted()
    for num in (7, 8, 9, 10):
        killed_after(path, num)
    assert_same(fit(fresh(), path).state_dict(), expected)


def test_a_kill_before_the_first_block_is_done_starts_over(tmp_path):
    path, (expected, _) = tmp_path / "member.safetensors", uninterrupted()
    killed_after(path, 1)
    assert not path.exists()
    assert_same(fit(fresh(), path).state_dict(), expected)


def test_a_kill_while_calibrating_trains_no_further(tmp_path):
    path, (expected, told) = tmp_path / "member.safetensors", uninterrupted()
    checks = []

    def rows(block):
        checks.append(block)
        if len(checks) > CONFIG.checks_per_epoch * EPOCHS * num_blocks:
            raise Killed
        return later_rows(block)

    num_blocks = len(list(blocks().blocks()))
    with pytest.raises(Killed):
        fit(fresh(), path, calibration_rows=rows)
    assert place(path) == [EPOCHS, 0]
    again = []
    assert_same(fit(fresh(), path, lambda *e: again.append(e)).state_dict(), expected)
    assert again == []
    assert len(told) > 0


def test_a_training_that_had_stopped_early_is_not_gone_on_with(tmp_path):
    """Killed between the last epoch that there was and the end."""
    path, calls, shares = tmp_path / "member.safetensors", [], []

    def stopping(**settings):
        ranker = fresh(patience=1, checks_per_epoch=4, learning_rate=0.1)
        return fit(ranker, num_epochs=8, **settings)

    def counted(block):
        calls.append(block)
        return later_rows(block)

    expected = stopping(calibration_rows=counted, progress=lambda share, _: shares.append(share))
    assert shares[-1] < 0.99
    until_calibrated = len(calls) - len(list(blocks().blocks()))
    calls.clear()

    def killed(block):
        if len(calls) == until_calibrated:
            raise Killed
        return counted(block)

    with pytest.raises(Killed):
        stopping(path=path, calibration_rows=killed)
    again = []
    ranker = stopping(path=path, progress=lambda *event: again.append(event))
    assert again == []
    assert_same(ranker.state_dict(), expected.state_dict())


def test_one_block_is_gone_on_with_at_the_next_epoch(tmp_path):
    dataset, path, told = tiny_dataset(), tmp_path / "member.safetensors", []
    expected = fit_ranker(
        new_ranker(dataset, CONFIG, 0),
        dataset,
        num_epochs=2,
        seed=0,
        progress=lambda *event: told.append(event),
    )
    half = len(told) // 2
    num = []

    def progress(*event):
        num.append(event)
        if len(num) == half + 3:
            raise Killed

    with pytest.raises(Killed):
        fit_ranker(
            new_ranker(dataset, CONFIG, 0),
            dataset,
            num_epochs=2,
            seed=0,
            progress=progress,
            checkpoint=path,
        )
    assert place(path) == [1, 0]
    rest = []
    ranker = fit_ranker(
        new_ranker(dataset, CONFIG, 0),
        dataset,
        num_epochs=2,
        seed=0,
        checkpoint=path,
        progress=lambda *event: rest.append(event),
    )
    assert rest == told[half:]
    assert_same(ranker.state_dict(), expected.state_dict())


def test_the_rows_of_finished_blocks_count_when_a_task_is_judged_by_its_classes(tmp_path):
    """The rows of the rest alone may be of one class."""
    path = tmp_path / "member.safetensors"
    changes = {"num_epochs": 1, "calibration_rows": lambda block: block.rows()[:0]}
    seen = []

    def one_kind_after_the_first(block):
        chosen = block.rows("train")
        if seen.count(True) == 0 and bool(block.labels(chosen)[:, 0].any()):
            seen.append(True)
            return chosen
        return chosen[block.labels(chosen)[:, 0] == 0]

    killed_after(path, 25, rows=one_kind_after_the_first, **changes)
    assert place(path)[1] > 0
    seen.clear()
    ranker = fit(fresh(), path, rows=one_kind_after_the_first, **changes)
    assert bool(ranker.head.weight.isfinite().all())


# What fails.


def assert_good(path):
    """The file can be gone on from, and all that it holds is finite."""
    tensors = load_tensors(path)
    bad = [name for name, t in tensors.items() if not bool(t.isfinite().all())]
    assert bad in ([], ["best_loss"])
    ranker = fresh()
    optimizers = make_optimizers(ranker, ranker.config)
    dense = [p for group in optimizers[0].param_groups for p in group["params"]]
    state = Checkpoint(path, ranker, optimizers, WeightAverage(dense, ranker.config.average_rate))
    state.restore()
    assert [state.epoch, state.block] == place(path)
    assert_same(ranker.state_dict(), {k[7:]: v for k, v in tensors.items() if "module." in k})


def poison(ranker, num_updates):
    """A progress callback that spoils a weight after so many updates."""
    told = []

    def progress(*event):
        told.append(event)
        if len(told) == num_updates:
            ranker.head.bias.data.fill_(torch.nan)

    return progress


def test_a_weight_that_is_not_a_number_is_told_with_its_place(tmp_path):
    path, ranker = tmp_path / "member.safetensors", fresh()
    _, told = uninterrupted()
    first = next(i for i, event in enumerate(told) if event[0] > 1 / EPOCHS) + 8  # inside a block
    message = r"the loss is not finite; got: nan at epoch 2, block \d+, batch \d+;.*learning_rate"
    with pytest.raises(RecomindError, match=message) as error:
        fit(ranker, path, poison(ranker, first))
    assert str(path) in str(error.value)
    assert place(path)[0] == 1
    assert_good(path)
    assert_same(fit(fresh(), path).state_dict(), uninterrupted()[0])


def test_without_a_checkpoint_none_is_promised():
    ranker = fresh()
    with pytest.raises(RecomindError, match="nan at epoch 1, block 1, batch 2") as error:
        fit(ranker, None, poison(ranker, 1))
    assert "None" not in str(error.value)
    assert "weights of" not in str(error.value)


def test_a_checkpoint_that_was_not_written_yet_is_not_promised(tmp_path):
    ranker = fresh()
    with pytest.raises(RecomindError, match="not finite") as error:
        fit(ranker, tmp_path / "member.safetensors", poison(ranker, 1))
    assert "safetensors" not in str(error.value)


def test_later_days_whose_loss_is_not_finite_are_told(tmp_path):
    """As where one update was far too large, and it was the last."""
    path, ranker = tmp_path / "member.safetensors", fresh(checks_per_epoch=1)
    num_blocks, calls = len(list(blocks().blocks())), []

    def rows(block):
        calls.append(block)
        if len(calls) == num_blocks + 1:  # at the check of the second epoch
            ranker.head.bias.data.fill_(torch.inf)
        return later_rows(block)

    with pytest.raises(
        RecomindError, match="not finite; got: nan at the calibration split, 100% of the"
    ):
        fit(ranker, path, calibration_rows=rows)
    assert_good(path)


def test_a_learning_rate_that_is_far_too_high_is_told(tmp_path):
    path = tmp_path / "member.safetensors"
    with pytest.raises(RecomindError, match=r"the loss is not finite.*lower ranker.learning_rate"):
        fit(fresh(learning_rate=1e25), path)
    assert not path.exists() or load_tensors(path)["place"].tolist()[:2] != [EPOCHS, 0]


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_a_gradient_that_is_not_finite_spoils_no_weight(tmp_path, value):
    path, ranker, told = tmp_path / "member.safetensors", fresh(), []

    def spoil(gradient):
        return gradient * value if len(told) == 30 else gradient

    ranker.head.weight.register_hook(spoil)
    with pytest.raises(RecomindError, match=r"nan at epoch .*, block .*, batch"):
        fit(ranker, path, lambda *event: told.append(event))
    assert len(told) == 30
    assert all(bool(p.isfinite().all()) for p in ranker.parameters())
    assert_good(path)


def test_a_damaged_checkpoint_is_told(tmp_path):
    path = tmp_path / "member.safetensors"
    killed_after(path, 20)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ArtifactError):
        fit(fresh(), path)


def test_a_checkpoint_of_another_shape_is_told(tmp_path):
    path = tmp_path / "member.safetensors"
    killed_after(path, 20)
    with pytest.raises(
        ArtifactError, match=r"(?s)other settings.*member.safetensors.*to mend: delete"
    ):
        fit(fresh(hidden=24), path)


def test_no_half_of_a_checkpoint_is_left(tmp_path, monkeypatch):
    """A kill while the file is written leaves the one before."""
    path = tmp_path / "member.safetensors"
    killed_after(path, 20)
    before = path.read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        fit(fresh(), path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    assert_same(fit(fresh(), path).state_dict(), uninterrupted()[0])


def test_the_best_weights_are_those_of_the_lowest_loss():
    module = torch.nn.Linear(1, 1)
    state = Checkpoint(None, module, [], WeightAverage([], 0.0))
    kept = None
    for loss in (0.5, 0.3, 0.4, float("nan"), 0.35):
        module.weight.data.fill_(loss)
        state.judge(loss)
        kept = state.checks_without_gain
    assert kept == 3
    state.take_best()
    assert module.weight.item() == pytest.approx(0.3)
