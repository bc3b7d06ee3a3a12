"""Which positives a state learns from, how they are drawn, and what negatives stand beside them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from recomind.data import SessionDataset
from recomind.errors import ConfigError
from recomind.retrieval import LossKind, RetrievalConfig
from recomind.retrieval.targets import DAY_S, Targets, make_targets
from recomind.retrieval.training import draw_batch, fit_towers
from recomind.streams import make_generator

SECOND_DAYS = 0.001 / DAY_S  # the fixture's events are a millisecond apart


def all_action(dataset: SessionDataset, num_next: float) -> Targets:
    """Positives at most `num_next` events after a state's own."""
    days = (num_next + 0.5) * SECOND_DAYS
    return make_targets(dataset, RetrievalConfig(loss=LossKind.all_action, horizon_days=days))


@pytest.mark.parametrize("num_next", [1, 2, 30])
def test_a_state_learns_from_the_positives_of_its_horizon(
    dataset: SessionDataset, num_next: int
) -> None:
    """Against a loop; a row's position says which of the next events are of its session."""
    targets, rows = all_action(dataset, num_next), dataset.rows("train", holdout=False)
    liked = dataset.labels(torch.arange(len(dataset)))[:, 0] > 0
    expected = {}
    for row, position in zip(rows.tolist(), dataset.position(rows).tolist(), strict=True):
        end = row + min(num_next + 1, 4 - position)
        if found := [r for r in range(row, end) if liked[r]]:
            expected[row] = found
    runs = zip(targets.row_A.tolist(), targets.first_A, targets.last_A, strict=True)
    got = {row: targets.positive_P[first:last].tolist() for row, first, last in runs}
    assert got == expected
    assert any(len(run) > 1 for run in got.values())


def test_next_learns_from_the_rows_own_event(dataset: SessionDataset) -> None:
    targets = make_targets(dataset, RetrievalConfig())
    index = torch.arange(len(targets))
    assert torch.equal(targets.row_A, targets.positive_P)
    assert torch.equal(targets.draw(index, make_generator(0)), index)


def test_draws_are_uniform_and_shares_are_their_frequency(dataset: SessionDataset) -> None:
    targets, generator = all_action(dataset, 30), make_generator(0)
    index = torch.arange(len(targets))
    drawn = torch.stack([targets.draw(index, generator) for _ in range(400)])
    assert (drawn >= targets.first_A).all()
    assert (drawn < targets.last_A).all()
    three = (targets.last_A - targets.first_A == 3).nonzero()[:, 0]
    place = (drawn[:, three] - targets.first_A[three]).flatten()
    counts = place.bincount(minlength=3) / len(place)
    torch.testing.assert_close(counts, torch.full((3,), 1 / 3), rtol=0, atol=0.02)
    item = dataset.item_id(targets.positive_P[drawn.flatten()])
    frequency = item.bincount(minlength=400).double() / len(item)
    torch.testing.assert_close(targets.shares.of(torch.arange(400)), frequency, rtol=0.1, atol=1e-4)


def test_uniform_draws_join_the_columns(dataset: SessionDataset) -> None:
    targets = make_targets(dataset, RetrievalConfig())
    index = torch.arange(64)
    plain = draw_batch(dataset, targets, index, 0, make_generator(0))
    mixed = draw_batch(dataset, targets, index, 5000, make_generator(0))
    assert torch.equal(mixed.item_M[:64], plain.item_M)
    assert torch.equal(plain.log_q_M, targets.shares.of(plain.item_M).log().float())
    q = targets.shares.of(mixed.item_M) + 5000 / (64 * 400)
    torch.testing.assert_close(mixed.log_q_M, q.log().float())
    assert mixed.item_M[64:].unique().numel() == 400, "5,000 draws of 400 items miss none"
    assert mixed.positive_BM.shape == (64, 5064)
    assert torch.equal(mixed.positive_BM, mixed.item_M[:64, None] == mixed.item_M)


def test_other_positives_of_the_horizon_are_no_negatives(dataset: SessionDataset) -> None:
    targets = all_action(dataset, 30)
    batch = draw_batch(dataset, targets, torch.arange(200), 0, make_generator(0))
    session = dataset.session_index(batch.row_B)
    same_session = session[:, None] == session
    other_item = batch.item_M[:, None] != batch.item_M
    assert (batch.positive_BM & same_session & other_item).any()
    assert not (batch.positive_BM & ~same_session & other_item).any()


@pytest.mark.parametrize("changes", [{"loss": LossKind.all_action}, {"num_sampled": 64}])
def test_either_way_learns_and_is_repeatable(
    make_dataset: Callable[..., SessionDataset], changes: dict
) -> None:
    dataset, losses = make_dataset(600, 400), []
    config = RetrievalConfig(dim=8, hidden=16, batch_size=64, num_epochs=6, **changes)
    one = fit_towers(dataset, config, lambda done, total, loss: losses.append(loss))
    two, other = fit_towers(dataset, config), fit_towers(dataset, RetrievalConfig(dim=8, hidden=16))
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
        assert not torch.equal(value, other.state_dict()[name])
    assert losses[-1] < 0.85 * losses[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon_days": 0.0}, "horizon_days is not positive"),
        ({"num_sampled": -1}, "num_sampled is negative"),
        ({"num_queries": 0}, "num_queries is not positive"),
        ({"num_queries": 2}, "single interest .* expected: 1, or at least 3"),
    ],
)
def test_bad_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RetrievalConfig(**changes)
