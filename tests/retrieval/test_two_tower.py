"""The towers: what they look at, what they ignore, and the loss that trains them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recomind.data import TableCatalogue
from recomind.errors import SchemaError
from recomind.retrieval import RetrievalConfig, TwoTower
from recomind.retrieval.targets import ItemShares
from recomind.retrieval.training import sampled_softmax_loss
from recomind.retrieval.two_tower import item_vectors, tower_shape, user_vectors
from recomind.streams import make_generator
from recomind.types import SessionState

CONFIG = RetrievalConfig(dim=6, hidden=12, history_length=3, half_life=2.0)


def catalogue_of(num_items: int = 10, num_snapshots: int = 2) -> TableCatalogue:
    generator = make_generator(5)
    return TableCatalogue(
        torch.randn(num_snapshots, num_items, 2, generator=generator),
        torch.randint(4, (num_items, 1), generator=generator),
        dense_names=("age", "length"),
        categorical_names=("tag",),
        vocab_sizes=(4,),
    )


CATALOGUE = catalogue_of()
MODEL = TwoTower(tower_shape(CATALOGUE, 3, CONFIG), make_generator(0))


def state_of(items: list[int], liked: list[bool], seen: list[bool]) -> SessionState:
    """One session with a history of 5 and the second task always answered."""
    feedback = torch.stack([torch.tensor(liked), torch.ones(5, dtype=torch.bool)], dim=1)
    return SessionState(
        user_id=torch.zeros(1, dtype=torch.int64),
        user_features=torch.tensor([[0.5, -1.0, 2.0]]),
        history_item_id=torch.tensor([items]),
        history_feedback=feedback[None],
        history_dwell_s=torch.zeros(1, 5),
        history_gap_s=torch.zeros(1, 5),
        history_mask=torch.tensor([seen]),
        gap_s=torch.zeros(1),
        step=torch.zeros(1, dtype=torch.int64),
        batch_size=[1],
    )


T, F = True, False
BASE = state_of([1, 2, 3, 4, 5], [T, T, T, F, T], [T] * 5)


def query(state: SessionState) -> Tensor:
    return user_vectors(MODEL, CATALOGUE, state)


def test_vectors_have_unit_length() -> None:
    torch.testing.assert_close(query(BASE).norm(dim=1), torch.ones(1))
    items = item_vectors(MODEL, CATALOGUE, torch.arange(10).view(2, 5))
    assert items.shape == (2, 5, 6)
    torch.testing.assert_close(items.norm(dim=-1), torch.ones(2, 5))


@pytest.mark.parametrize(
    "same",
    [
        state_of([9, 9, 3, 4, 5], [T, T, T, F, T], [T] * 5),  # beyond history_length
        state_of([1, 2, 3, 8, 5], [T, T, T, F, T], [T] * 5),  # not liked
    ],
)
def test_user_tower_ignores_what_it_must(same: SessionState) -> None:
    torch.testing.assert_close(query(same), query(BASE), rtol=0, atol=1e-7)


def test_user_tower_ignores_padding() -> None:
    one = state_of([0, 0, 0, 4, 5], [F, F, F, F, T], [F, F, F, T, T])
    two = state_of([0, 0, 7, 4, 5], [F, F, T, F, T], [F, F, F, T, T])
    torch.testing.assert_close(query(one), query(two), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "other",
    [
        state_of([1, 2, 3, 4, 6], [T, T, T, F, T], [T] * 5),  # another liked item
        state_of([1, 2, 5, 4, 3], [T, T, T, F, T], [T] * 5),  # another order
        state_of([1, 2, 3, 4, 5], [T, T, T, T, T], [T] * 5),  # another response
    ],
)
def test_user_tower_sees_what_it_must(other: SessionState) -> None:
    assert not torch.allclose(query(other), query(BASE), atol=1e-4)


def test_recency_weights_halve_every_half_life() -> None:
    """The tower's inputs, computed by hand: items 3 and 5 are liked, 2 and 0 events ago."""
    captured: list[Tensor] = []
    hook = MODEL.user_tower.register_forward_pre_hook(lambda _, args: captured.append(args[0]))
    query(BASE)
    hook.remove()
    three, five = item_vectors(MODEL, CATALOGUE, torch.tensor([3, 5]))
    expected = torch.cat([BASE.user_features[0], (three + five) / 2, (three * 0.5 + five) / 1.5])
    torch.testing.assert_close(captured[0][0], expected)


def test_repeated_items_pass_the_tower_once_and_keep_their_snapshot() -> None:
    item_id = torch.tensor([[3, 3, 9], [9, 0, 3]])
    snapshot = torch.tensor([[0], [1]])
    got = item_vectors(MODEL, CATALOGUE, item_id, snapshot)
    naive = MODEL.items(CATALOGUE.features(item_id, snapshot.expand(2, 3)))
    torch.testing.assert_close(got, naive)
    assert not torch.allclose(got[0, 0], got[1, 2])
    torch.testing.assert_close(
        item_vectors(MODEL, CATALOGUE, item_id), MODEL.items(CATALOGUE.features(item_id))
    )


def test_equal_seeds_equal_weights() -> None:
    shape = tower_shape(CATALOGUE, 3, CONFIG)
    torch.manual_seed(99)  # the global generator must not matter
    again, other = TwoTower(shape, make_generator(0)), TwoTower(shape, make_generator(1))
    for name, value in MODEL.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert not torch.equal(value, other.state_dict()[name])


def test_item_shares_count_or_weigh() -> None:
    asked = torch.tensor([7, 3, 5])
    counted = ItemShares(torch.tensor([7, 3, 7, 7])).of(asked)
    torch.testing.assert_close(counted, torch.tensor([0.75, 0.25, 0.0]).double())
    weight = torch.tensor([1.0, 5.0, 2.0, 2.0]).double()
    weighed = ItemShares(torch.tensor([7, 3, 7, 7]), weight).of(asked)
    torch.testing.assert_close(weighed, torch.tensor([0.5, 0.5, 0.0]).double())


def test_in_batch_loss_against_a_loop() -> None:
    logits = torch.randn(4, 4, generator=make_generator(2))
    item_id, frequency = torch.tensor([5, 8, 5, 1]), torch.tensor([-0.7, -1.4, -0.7, -1.4])
    total = 0.0
    for i in range(4):
        score = [float(logits[i, j] - frequency[j]) for j in range(4)]
        rivals = [j for j in range(4) if j == i or item_id[j] != item_id[i]]
        total -= score[i] - math.log(sum(math.exp(score[j]) for j in rivals))
    got = sampled_softmax_loss(logits, frequency, item_id[:, None] == item_id)
    assert float(got) == pytest.approx(total / 4, rel=1e-5)


def test_loss_with_further_columns_against_a_loop() -> None:
    """Two rows, five columns; column 3 is another positive of row 0."""
    logits = torch.randn(2, 5, generator=make_generator(3))
    log_q = torch.tensor([-0.3, -1.0, -2.0, -0.1, -3.0])
    positive = torch.tensor([[T, F, F, T, F], [F, T, F, F, F]])
    total = 0.0
    for i, rivals in enumerate(([0, 1, 2, 4], [0, 1, 2, 3, 4])):
        score = [float(logits[i, j] - log_q[j]) for j in range(5)]
        total -= score[i] - math.log(sum(math.exp(score[j]) for j in rivals))
    got = sampled_softmax_loss(logits, log_q, positive)
    assert float(got) == pytest.approx(total / 2, rel=1e-5)


def test_states_of_another_schema_are_refused() -> None:
    bad = BASE.clone()
    bad.user_features = torch.zeros(1, 4)
    with pytest.raises(SchemaError, match="user features; got: 4; expected: 3"):
        query(bad)
