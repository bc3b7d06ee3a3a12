"""`check_world` and `recomind check-world` say what is wrong with a world, and how to mend it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recomind.data import TableCatalogue
from recomind.findings import Level
from recomind.simulation import check_world
from simulators.video_feed.presets import PRESETS
from simulators.video_feed.world import VideoFeed
from tests.contracts.worlds import BROKEN
from tests.flow.in_process import Command

# Warm histories fill the state, so that Forgetful is tried on what follows and nothing else.
SETTINGS: dict[str, Any] = {"num_items": 300, "horizon": 8, "history_length": 10}


def said(world) -> list[str]:
    return [str(found) for found in check_world(world, seed=3)]


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_embedded_worlds_pass(name):
    found = check_world(VideoFeed(preset_name=name, **SETTINGS), seed=3)
    assert [f for f in found if f.level is Level.error] == []
    assert any("13 sessions of random items" in str(f) for f in found)


@pytest.mark.parametrize("kind", list(BROKEN), ids=lambda kind: kind.__name__)
def test_a_broken_world_is_told_what_it_breaks(kind):
    errors = [line for line in said(kind(**SETTINGS)) if line.startswith("error: ")]
    assert len(errors) == 1, errors
    assert errors[0].startswith(f"error: {BROKEN[kind]}")


class CrowdedAndLeaky(VideoFeed):
    """Two faults that do not hide each other."""

    def _begin(self, streams):
        state, hidden = super()._begin(streams)
        state.user_features = state.user_features + 0.1 * len(streams.seeds)
        return state, hidden

    def _features_now(self, state, hidden):
        return torch.cat([state.user_features[:, :-1], hidden["patience"][:, None]], dim=1)

    def set_state(self, tensors, *, auto_reset=True):
        return super().set_state(
            dict(tensors) | {"hidden.patience": tensors["hidden.patience"] + 1.0}
        )


def test_several_faults_are_all_named():
    errors = [line for line in said(CrowdedAndLeaky(**SETTINGS)) if line.startswith("error: ")]
    assert len(errors) == 2
    assert "depends on the others of its batch: state.user_features differs" in errors[0]
    assert "set_state(get_state()) does not continue" in errors[1]


class RawItems(VideoFeed):
    def __init__(self, scale, **settings):
        super().__init__(**settings)
        items, table = torch.arange(self.catalogue.num_items), self.catalogue
        content = table.features(items)
        self.catalogue = TableCatalogue(
            content.dense[None] * scale,
            content.categorical,
            dense_names=table.dense_names,
            categorical_names=table.categorical_names,
            vocab_sizes=table.vocab_sizes,
        )


def test_item_features_are_looked_at():
    assert any(
        line.startswith("warning: item features are not standardised; got: '")
        for line in said(RawItems(1e4, **SETTINGS))
    )
    assert any(
        line.startswith("warning: the dense features of all items are the same")
        for line in said(RawItems(0.0, **SETTINGS))
    )
    assert not any(
        "of all items" in line or "item features" in line
        for line in said(RawItems(1.0, **SETTINGS))
    )


class Immortal(VideoFeed):
    """Nobody leaves, nobody likes, and features are raw."""

    def _begin(self, streams):
        state, hidden = super()._begin(streams)
        state.user_features = 1000.0 + state.user_features
        return state, hidden

    def _respond(self, state, hidden, item_id, streams):
        response, hidden = super()._respond(state, hidden, item_id, streams)
        response.left = torch.zeros_like(response.left)
        response.feedback = torch.zeros_like(response.feedback)
        return response, hidden


def test_what_is_allowed_and_seldom_meant_is_a_warning():
    lines = said(Immortal(**SETTINGS))
    assert not [line for line in lines if line.startswith("error")]
    for what in (
        "nobody leaves: every session was truncated; got: 13 sessions of 8.0 steps",
        "task 'watch_10s' never happens; got: in 104 random events",
        "the reward is the same whatever is shown; got: 0.0",
        "user features are not standardised; got: up to 100",
    ):
        assert any(line.startswith(f"warning: {what}") for line in lines), (what, lines)


TINY = ("experiment=tiny", "world.num_items=100")


def test_the_command_passes_a_good_world(command: Command):
    outcome = command("check-world", *TINY)
    assert outcome.status == 0, outcome.err
    assert "world simulators.video_feed.world.VideoFeed" in outcome.out
    assert "note" in outcome.out
    assert "error" not in outcome.out


def test_the_command_refuses_a_broken_world(command: Command):
    target = "world._target_=tests.contracts.worlds.WrongType"
    outcome = command("check-world", *TINY, target, "allowed_targets=[tests]")
    assert outcome.status == 2
    assert "error    response.feedback has the wrong type; got: torch.float32" in outcome.out
    assert outcome.err.startswith("error: the contract of a world is broken; got: 1 errors")
    assert len(outcome.err.splitlines()) == 1


def test_the_command_needs_a_world(command: Command):
    outcome = command("check-world", "data=kuairand", "data.root=raw")
    assert outcome.status == 2
    assert "no world to check" in outcome.err
