"""Categories of few values stand among the numbers of a Gymnasium world's items."""

from __future__ import annotations

import torch

from recomind.data import TableCatalogue
from recomind.simulation.summary import MAX_VALUES
from simulators.gym.items import with_values
from simulators.gym.world import GymWorld
from simulators.video_feed.world import VideoFeed
from tests.simulators.bored_env import NUM_ITEMS, NUM_KINDS
from tests.simulators.test_gym_world import trusted as trusted


def items(*sizes: int, num: int = 200) -> TableCatalogue:
    columns = [torch.arange(num) % size for size in sizes]
    return TableCatalogue(
        torch.linspace(-1.0, 1.0, num)[None, :, None],
        torch.stack(columns, dim=1),
        dense_names=["x"],
        categorical_names=[f"c{index}" for index in range(len(sizes))],
        vocab_sizes=sizes,
    )


def test_each_value_is_a_column():
    found = with_values(items(3))
    assert found.dense_names == ("x", "c0=0", "c0=1", "c0=2")
    shown = found.features(torch.tensor([4])).dense[0]
    assert torch.equal(shown[1:], torch.tensor([0.0, 1.0, 0.0]))
    assert torch.equal(shown[:1], items(3).features(torch.tensor([4])).dense[0])
    assert found.categorical_names == ("c0",)


def test_few_values_come_first_and_many_are_left_out():
    names = with_values(items(MAX_VALUES - 4, 5, 4)).dense_names
    assert {name.partition("=")[0] for name in names} == {"x", "c1", "c2"}
    assert len(with_values(items(MAX_VALUES)).dense_names) == 1 + MAX_VALUES
    assert with_values(items(MAX_VALUES + 1)).dense_names == ("x",)


def test_what_is_there_already_is_not_added_again():
    once = with_values(items(3))
    assert with_values(once).dense_names == once.dense_names


def test_a_catalogue_that_is_no_table_stays_as_it_is():
    catalogue = VideoFeed(num_items=50).catalogue
    assert with_values(catalogue) is catalogue


def test_an_id_is_no_kind_of_item():
    few = items(3, 30, num=30)
    assert with_values(few).dense_names == ("x", "c0=0", "c0=1", "c0=2")
    found = GymWorld(env_id="tests.simulators.bored_env:Bored-v0", horizon=4, history_length=4)
    assert NUM_KINDS < NUM_ITEMS <= MAX_VALUES
    assert found.catalogue.dense_names == ("constant",)
    assert found.catalogue.categorical_names == ("item",)
