"""`check_environment` accepts what is right, and names what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recomind.artifacts import Manifest
from recomind.errors import SchemaError
from recomind.ranker import save_rankers
from recomind.simulation import (
    check_environment,
    fit_holdout,
    fit_simulator,
    load_holdout,
    load_simulator,
)
from recomind.streams import hash_uniform, make_generator
from simulators.video_feed.presets import PRESETS
from simulators.video_feed.world import VideoFeed
from tests.contracts.worlds import EndsTwice, NeverEnds
from tests.simulation import tiny


def world(kind=VideoFeed, **changes):
    settings: dict[str, Any] = {"num_items": 300, "horizon": 12, "history_length": 8} | changes
    return kind(**settings)


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_embedded_world_passes(name):
    check_environment(world(preset_name=name), seed=1)


def test_a_history_longer_and_shorter_than_the_session_passes():
    check_environment(world(history_length=2, warm_events=0))
    check_environment(world(history_length=40, warm_events=30))


def test_a_session_of_one_step_passes():
    check_environment(world(horizon=1))


class Rewarding(VideoFeed):
    """Pays twice."""

    def step(self, item_id):
        step = super().step(item_id)
        step.reward = 2 * step.reward
        return step


class Unlucky(VideoFeed):
    """Draws from torch's global generator."""

    def _respond(self, state, hidden, item_id, streams):
        response, hidden = super()._respond(state, hidden, item_id, streams)
        response.dwell_s = 1.0 + torch.rand(len(item_id))
        return response, hidden


class Crowded(VideoFeed):
    """A user is influenced by the next row of the batch."""

    def _respond(self, state, hidden, item_id, streams):
        response, hidden = super()._respond(state, hidden, item_id, streams)
        response.feedback[:, 3] = response.feedback[:, 0].roll(1)
        return response, hidden


class Hasty(VideoFeed):
    """Cuts sessions before the horizon without a word."""

    def step(self, item_id):
        step = super().step(item_id)
        early = step.valid & ~step.terminated & (step.state.step == 3)
        self._ended = self._ended | early
        step.truncated = step.truncated | early
        return step


class Cutting(VideoFeed):
    """Cuts sessions early, and says so."""

    @property
    def cuts_early(self):
        return True

    def _respond(self, state, hidden, item_id, streams):
        response, hidden = super()._respond(state, hidden, item_id, streams)
        return response, hidden | {"cut": item_id % 5 == 0}

    def _begin(self, streams):
        state, hidden = super()._begin(streams)
        return state, hidden | {"cut": torch.zeros(len(streams.seeds), dtype=torch.bool)}

    def _cut(self, hidden):
        return hidden["cut"]


class Moody(Cutting):
    """Cuts early, and not by the seed alone."""

    def _cut(self, hidden):
        return torch.rand(len(hidden["cut"])) < 0.5


class Undead(VideoFeed):
    """Goes on with sessions that have ended."""

    def step(self, item_id):
        self._ended = torch.zeros_like(self._ended)
        return super().step(item_id)


class Forgetful(VideoFeed):
    """Writes something else into the history than what it answered."""

    def step(self, item_id):
        step = super().step(item_id)
        step.state.history_feedback = step.state.history_feedback.clone()
        step.state.history_feedback[:, -1] ^= True
        return step


class InPlace(VideoFeed):
    """Writes the next state into the last one."""

    def step(self, item_id):
        before = self._state
        step = super().step(item_id)
        before.history_dwell_s.copy_(step.state.history_dwell_s)
        return step


class Float64(VideoFeed):
    """Dwell times of another type."""

    def _respond(self, state, hidden, item_id, streams):
        response, hidden = super()._respond(state, hidden, item_id, streams)
        response.dwell_s = response.dwell_s.double()
        return response, hidden


class Diverged(VideoFeed):
    """Dwell times that are not numbers."""

    def _respond(self, state, hidden, item_id, streams):
        response, hidden = super()._respond(state, hidden, item_id, streams)
        response.dwell_s = response.dwell_s.log().where(item_id % 2 == 0, torch.nan)
        return response, hidden


class RightPadded(VideoFeed):
    """Fills histories from the left."""

    def _begin(self, streams):
        state, hidden = super()._begin(streams)
        state.history_mask = state.history_mask.flip(1)
        return state, hidden


class OtherItems(VideoFeed):
    """Histories with ids that the catalogue does not have."""

    def _begin(self, streams):
        state, hidden = super()._begin(streams)
        state.history_item_id = state.history_item_id + 1_000 * state.history_mask
        return state, hidden


class Backwards(VideoFeed):
    """Users whose last event is yet to come."""

    def _begin(self, streams):
        state, hidden = super()._begin(streams)
        state.gap_s = state.gap_s - 5.0
        return state, hidden


class Waiting(VideoFeed):
    """Waits for users who have no history."""

    def _begin(self, streams):
        state, hidden = super()._begin(streams)
        state.history_mask = torch.zeros_like(state.history_mask)
        for name in ("history_item_id", "history_feedback", "history_dwell_s"):
            setattr(state, name, torch.zeros_like(getattr(state, name)))
        state.gap_s = state.gap_s + 5.0
        return state, hidden


class PaddedGaps(VideoFeed):
    """Gaps of events that never were."""

    def _begin(self, streams):
        state, hidden = super()._begin(streams)
        state.history_gap_s = state.history_gap_s + 1.0
        return state, hidden


class Timeless(VideoFeed):
    """Forgets when the latest event began."""

    def step(self, item_id):
        step = super().step(item_id)
        step.state.gap_s = torch.zeros_like(step.state.gap_s)
        return step


class Restless(VideoFeed):
    """Says that no time passes between events."""

    def step(self, item_id):
        step = super().step(item_id)
        step.state.history_gap_s = torch.zeros_like(step.state.history_gap_s)
        return step


class SameUsers(VideoFeed):
    """Takes the users from a counter, not from the seeds."""

    count = 0

    def _begin(self, streams):
        state, hidden = super()._begin(streams)
        self.count += 1
        state.user_features = state.user_features + hash_uniform(torch.tensor(self.count))
        return state, hidden


class Stopping(VideoFeed):
    """Never begins a session anew."""

    def reset(self, num_sessions, generator, *, auto_reset=False):
        return super().reset(num_sessions, generator)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Rewarding, "reward is not the weighted sum of the feedback"),
        (Unlucky, "the same generator gives different sessions: .*dwell_s differs at step"),
        (Crowded, "a session depends on the others of its batch: .*feedback differs at step 0"),
        (EndsTwice, "terminated and truncated at once"),
        (NeverEnds, "truncated must be True where the horizon cut a session"),
        (Hasty, "truncated before the horizon; .*to mend: return True from `cuts_early`"),
        (Moody, "the same generator gives different sessions: truncated differs at step 0"),
        (Undead, "valid must be False exactly where a session had ended"),
        (
            Forgetful,
            "state.history_feedback is not the earlier history followed by the latest event",
        ),
        (InPlace, r"step\(\) changed state.history_dwell_s of a state it had returned"),
        (Float64, "response.dwell_s has the wrong type; got: torch.float64; expected: .*float32"),
        (Diverged, "response.dwell_s is not finite"),
        (RightPadded, "state.history_mask has a gap; padding is on the left"),
        (OtherItems, "history_item_id names items that are not in the catalogue"),
        (Backwards, "state.gap_s is negative; got: -5.0"),
        (Waiting, "state.gap_s is not 0 where there is no history"),
        (PaddedGaps, "state.history_gap_s is not 0 where the mask is False"),
        (Timeless, "state.gap_s is not the dwell time of the latest event"),
        (Restless, "state.history_gap_s is not the earlier history followed by the latest event"),
        (SameUsers, "the same generator gives different sessions: state.user_features differs"),
        (Stopping, "with auto_reset, the step after an end must"),
    ],
)
def test_broken_promises_are_named(kind, message):
    with pytest.raises(SchemaError, match=message):
        check_environment(world(kind, history_length=30))


def test_a_world_may_cut_sessions_early():
    env = world(Cutting, history_length=30)
    check_environment(env)
    env.reset(200, make_generator(0))
    step = env.step(torch.arange(200))
    expected = (torch.arange(200) % 5 == 0) & ~step.terminated
    assert torch.equal(step.truncated, expected)
    assert bool(step.response.left.any())  # who leaves at a cut has left
    assert not bool((step.truncated & step.terminated).any())


def test_what_is_no_environment_is_refused():
    with pytest.raises(SchemaError, match=r"not a session environment.*'reset_to'"):
        check_environment(object())  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The learned simulators, fitted to logs of a small world."""
    folder, rankers = tmp_path_factory.mktemp("fitted"), [tiny.tiny_ranker(0), tiny.tiny_ranker(1)]
    save_rankers(folder / "ranker", rankers, tiny.tiny_catalogue(), Manifest(kind=""))
    dataset, config = tiny.tiny_dataset(), tiny.SIMULATOR
    fit_simulator(folder / "learned", rankers, dataset, config, Manifest(kind=""), seed=0)
    fit_holdout(folder / "trees", dataset, config, Manifest(kind=""), seed=0)
    stopping = load_simulator(folder / "learned", folder / "ranker", tiny.WEIGHTS)
    stopping.uncertainty_stop = 0.03
    return {
        "learned": load_simulator(folder / "learned", folder / "ranker", tiny.WEIGHTS),
        "stopping": stopping,
        "trees": load_holdout(folder / "trees", tiny.WEIGHTS),
    }


@pytest.mark.parametrize("name", ["learned", "stopping", "trees"])
def test_the_learned_simulators_pass(fitted, name):
    check_environment(fitted[name], seed=2)
