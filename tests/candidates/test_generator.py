"""Candidates of a generator of the user's own: certain, checked, and named by a config."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recomind.candidates import CandidatePool, CandidatesConfig, make_pool
from recomind.candidates.generator import load_generator
from recomind.errors import ConfigError, RecomindError, SchemaError
from recomind.plugins import VARIABLE
from recomind.types import SessionState
from tests.candidates.pools import NearZero, config_of, state_of, streams_of
from tests.retrieval.conftest import tag_catalogue


class Multiples:
    """The user's multiples of 10, as many as there are in the catalogue."""

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items

    def generate(self, state: SessionState, num: int) -> Tensor:
        item = 10 * (state.user_id[:, None] % 5 + torch.arange(num))
        return torch.where(item < self.num_items, item, -1)


class Returning:
    """Returns what it is told to."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def generate(self, state: SessionState, num: int) -> Any:
        return self.what


def pool_with(generator: Any, num: int = 2, **changes: Any) -> CandidatePool:
    config = config_of(num_generated=num, **changes)
    return CandidatePool(config, 1000, NearZero(1000), torch.tensor([999]), generator=generator)


def test_generated_items_stand_after_the_nearest_and_are_certain() -> None:
    got = pool_with(Multiples(1000)).candidates(state_of(3), streams_of(3))
    assert got.item_id[:, :6].tolist() == [
        [0, 1, 2, 0, 10, 999],
        [0, 1, 2, 10, 20, 999],
        [0, 1, 2, 20, 30, 999],
    ]
    assert got.mask[:, 3].tolist() == [False, True, True], "0 is among the nearest already"
    assert not got.log_propensity[:, :5].any()


def test_generated_items_that_may_not_be_offered_are_masked() -> None:
    pool = pool_with(Multiples(1000), blocked=[20])
    got = pool.candidates(state_of(3, history=[10]), streams_of(3))
    assert got.mask[:, 3:5].tolist() == [[False, False], [False, False], [False, True]]


def test_a_generator_that_finds_fewer_leaves_padding() -> None:
    pool = CandidatePool(config_of(num_generated=3), 15, generator=Multiples(15))
    got = pool.candidates(state_of(2), streams_of(2))
    assert got.item_id[1, 0] == 10
    assert got.mask[:, :3].tolist() == [[True, True, False], [True, False, False]]


@pytest.mark.parametrize("fresh", [0, 1])
def test_log_propensity_is_the_frequency_of_being_in_the_pool(fresh: int) -> None:
    batch, num_items = 40_000, 14
    state = state_of(batch)
    state.user_id = torch.zeros(batch, dtype=torch.int64)
    pool = CandidatePool(
        config_of(k=7, near=2, fresh=fresh, num_generated=2),
        num_items,
        NearZero(num_items),
        torch.tensor([10, 11]),
        generator=Multiples(num_items),
    )
    got = pool.candidates(state, streams_of(batch))
    for item in range(num_items):
        inside = got.mask & (got.item_id == item)
        stated = got.log_propensity[inside].exp()
        assert stated.max() - stated.min() < 1e-6
        share, expected = float(inside.any(1).float().mean()), float(stated[0])
        assert (expected == 1.0) == (item in {0, 1, 10})
        sigma = math.sqrt(expected * (1 - expected) / batch)
        assert abs(share - expected) < 4 * sigma + 1e-6


@pytest.mark.parametrize(
    ("what", "got"),
    [
        ([1, 2], "list"),
        (torch.zeros(2, 3, dtype=torch.int64), r"torch.int64 \(2, 3\)"),
        (torch.zeros(2, 2), r"torch.float32 \(2, 2\)"),
        (torch.zeros(4, dtype=torch.int64), r"torch.int64 \(4,\)"),
        (torch.tensor([[0, 1], [2, 1000]]), "ids 0 .. 1000"),
        (torch.tensor([[0, 1], [2, -2]]), "ids -2 .. 2"),
    ],
)
def test_what_is_no_item_ids_is_refused(what: Any, got: str) -> None:
    expected = r"expected: torch.int64 \(2, 2\), ids 0 .. 999, -1 for none"
    with pytest.raises(SchemaError, match=f"Returning.generate .*got: {got}; {expected}"):
        pool_with(Returning(what)).candidates(state_of(2), streams_of(2))


SHOP = """
import torch

class Popular:
    def __init__(self, catalogue, first=0):
        self.first, self.num_items = first, catalogue.num_items

    def generate(self, state, num):
        item = self.num_items - 1 - self.first - torch.arange(num)
        return item.repeat(len(state.step), 1)

def nothing(catalogue):
    return 3
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of a user, allowed."""
    (tmp_path / "shop_of_pools.py").write_text(SHOP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "shop_of_pools")
    yield
    sys.modules.pop("shop_of_pools", None)


def test_a_config_names_the_generator(shop: None) -> None:
    settings = {"_target_": "shop_of_pools.Popular", "first": 1}
    config = config_of(num_generated=2, generator=settings)
    got = make_pool(config, tag_catalogue(100)).candidates(state_of(1), streams_of(1))
    assert got.item_id[0, :2].tolist() == [98, 97]
    assert config.generator == settings, "settings are not consumed"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_target_": "os.getcwd"}, "candidates.generator._target_ is outside the allowed prefix"),
        ({"first": 1}, "candidates.generator._target_ is outside .*got: no _target_"),
        ({"_target_": "shop_of_pools.Popula"}, "cannot be imported"),
        (
            {"_target_": "shop_of_pools.Popular", "second": 1},
            "cannot be created; got: shop_of_pools.Popular: .*'second'.*with the catalogue",
        ),
        ({"_target_": "shop_of_pools.nothing"}, r"is not a generator; got: int; .*generate\("),
    ],
)
def test_bad_generators_are_named(shop: None, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_generator(settings, tag_catalogue(10))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pool_with(None), "need one another; got: num_generated=2, generator=None"),
        (lambda: pool_with(Multiples(9), num=0), "need one another"),
        (lambda: pool_with(Multiples), "is not a generator; got: Multiples"),
        (lambda: CandidatesConfig(generator={"_target_": "a.b"}), "a generator without slots"),
        (lambda: config_of(num_generated=5), "num_nearest=3 .* num_generated=5; expected: <= .*=8"),
        (lambda: config_of(num_generated=-1), "num_generated=-1"),
    ],
)
def test_bad_settings_are_named(make, message: str) -> None:
    with pytest.raises(RecomindError, match=message):
        make()
