"""What a ranker offers is asked of it, and a ranker of one's own need offer nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from recomind.errors import ConfigError
from recomind.ranker import CompletedRanker, SessionRanker, trunk_of
from recomind.ranker.capabilities import (
    frozen_copy,
    incremental_part,
    own_part,
    two_tower_part,
)
from recomind.ranker.recipe import ranker_recipe
from tests.adapters.test_external import make, own_ranker


class Foreign:
    tasks: tuple[str, ...] = ("like",)

    def encode_state(self, state, snapshot=None):
        return state

    def score(self, encoding, item_id, snapshot=None):
        return torch.zeros(*item_id.shape, 1)


def test_a_session_ranker_offers_itself_for_everything() -> None:
    ranker = own_ranker()
    assert own_part(ranker) is two_tower_part(ranker) is incremental_part(ranker) is ranker
    copied = frozen_copy(ranker)
    assert isinstance(copied, SessionRanker)
    assert copied is not ranker
    assert copied.table is ranker.table
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    assert all(parameter.requires_grad for parameter in ranker.parameters())


def test_events_are_not_encoded_alone_in_training_or_in_a_window() -> None:
    ranker = own_ranker()
    assert incremental_part(ranker.train()) is None
    config = dataclasses.replace(ranker.config, num_layers=1)
    windowed = SessionRanker(ranker.catalogue, ranker.tasks, 2, config).precompute_items()
    assert incremental_part(windowed) is None
    assert two_tower_part(windowed) is windowed


def test_a_completed_ranker_offers_the_ranker_inside_it_and_no_short_cut() -> None:
    ranker = CompletedRanker(make(), own_ranker())
    assert own_part(ranker) is ranker.own
    assert two_tower_part(ranker) is incremental_part(ranker) is None
    copied = frozen_copy(ranker)
    assert isinstance(copied, CompletedRanker)
    assert copied.own is not ranker.own
    assert copied.external._scorer is ranker.external._scorer
    with pytest.raises(ConfigError, match="without a ranker of our own"):
        trunk_of([ranker])


@pytest.mark.parametrize("kind", ["external", "foreign"])
def test_other_rankers_offer_nothing_and_are_used_as_they_are(kind: str) -> None:
    ranker = make() if kind == "external" else Foreign()
    assert own_part(ranker) is two_tower_part(ranker) is incremental_part(ranker) is None
    assert frozen_copy(ranker) is ranker


def test_a_ranker_without_a_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no artifact can hold; got: Foreign"):
        ranker_recipe(Foreign(), tmp_path)
