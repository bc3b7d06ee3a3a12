"""A collected log holds what a production log would hold, and no more."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from recomind.artifacts import Manifest
from recomind.data import SessionDataset, write_sessions
from recomind.data.sessions import SCHEMA
from recomind.errors import ConfigError, RecomindError, SchemaError
from recomind.policy import RankerPolicy
from recomind.simulation import collect_sessions, state_tensors
from recomind.streams import make_generator
from simulators.video_feed.world import TASKS, VideoFeed
from tests.simulation.tiny import (
    HORIZON,
    LENGTH,
    NUM_ITEMS,
    NUM_SESSIONS,
    WARM,
    WEIGHTS,
    collect,
    tiny_catalogue,
    tiny_frame,
    tiny_pool,
    tiny_ranker,
    tiny_world,
)


def in_session():
    return tiny_frame().filter(pl.col("position") >= 0)


def test_the_columns_are_those_of_a_log():
    world = tiny_world()
    features = {f"u_{name}" for name in world.user_feature_names}
    assert set(tiny_frame().columns) == set(SCHEMA) | set(TASKS) | features


def test_no_column_carries_the_hidden_taste():
    """Whatever stands in the log before a session's first event is a function of what is seen."""
    world = tiny_world()
    state = world.reset(NUM_SESSIONS, make_generator(0))
    values = tiny_frame().select(pl.col(pl.Float32, pl.Float64)).fill_null(0.0).to_torch()
    for hidden in world.hidden.values():
        secret = hidden.float().flatten()
        secret = secret[(secret != 0) & (secret != 1)]
        assert not bool(torch.isin(values.float(), secret).any())
    assert bool(torch.isin(values.float(), state.user_features[:, -1]).any())


class Endless(VideoFeed):
    """Its sessions never end."""

    def _respond(self, state, hidden, item_id, streams):
        response, hidden = super()._respond(state, hidden, item_id, streams)
        response.left = torch.zeros_like(response.left)
        return response, hidden


class Boundless(Endless):
    """And its horizon is said, not kept."""

    def step(self, item_id):
        step = super().step(item_id)
        step.truncated = torch.zeros_like(step.truncated)
        return step


class Broken(VideoFeed):
    """A dwell time that is not a number, in the third step."""

    def _respond(self, state, hidden, item_id, streams):
        response, hidden = super()._respond(state, hidden, item_id, streams)
        response.dwell_s[state.step == 2] = torch.nan
        return response, hidden


def embedded(kind):
    return kind(num_items=NUM_ITEMS, horizon=HORIZON, history_length=LENGTH, warm_events=WARM)


def test_sessions_that_never_end_are_cut_at_the_horizon():
    events = collect(embedded(Endless), 20).filter(pl.col("position") >= 0)
    assert events.height == 20 * HORIZON
    last = events.filter(pl.col("position") == HORIZON - 1)
    assert not last["left"].any()
    assert not last["left_known"].any()


def test_an_environment_that_goes_on_after_its_horizon_is_refused():
    message = f"sessions continued after the horizon; got: 20 alive after {HORIZON} steps"
    with pytest.raises(SchemaError, match=message):
        collect(embedded(Boundless), 20)


def test_a_number_that_is_none_reaches_no_log():
    with pytest.raises(SchemaError, match=r"response.dwell_s is not finite; got: nan at step 2"):
        collect(embedded(Broken), 20)


def test_a_ranker_that_diverges_in_a_session_writes_no_log():
    policy = RankerPolicy([tiny_ranker(0), Diverging(tiny_ranker(1))], WEIGHTS)
    with pytest.raises(RecomindError, match="nan for hide at step 3 from member 1"):
        collect_sessions(
            tiny_world(),
            policy,
            tiny_pool(),
            num_sessions=30,
            generator=make_generator(0),
            user_feature_names=tiny_world().user_feature_names,
        )


def test_a_log_without_sessions_is_refused():
    with pytest.raises(ConfigError, match="no sessions to run; got: 0"):
        collect(tiny_world(), 0)


class Diverging:
    """A ranker whose last task is NaN from the fourth step on."""

    def __init__(self, ranker):
        self.ranker, self.tasks = ranker, ranker.tasks

    def encode_state(self, state, snapshot=None):
        return self.ranker.encode_state(state, snapshot), state.step

    def score(self, encoding, item_id, snapshot=None):
        logits = self.ranker.score(encoding[0], item_id, snapshot).clone()
        logits[encoding[1] >= 3, :, -1] = torch.nan
        return logits


class Dated(VideoFeed):
    """Knows when the events before the sessions were: seconds to weeks ago."""

    def _begin(self, streams):
        state, hidden = super()._begin(streams)
        gap_s = 1e6 ** streams.uniform(state.step, self.history_length + 1, 77)
        first = state.history_mask.int().argmax(1, keepdim=True)  # what came before is unknown
        state.history_gap_s = (gap_s[:, 1:] * state.history_mask).scatter(1, first, 0.0)
        state.gap_s = gap_s[:, 0]
        return state, hidden


def read_back(frame, folder, length=LENGTH) -> SessionDataset:
    write_sessions(
        folder / "sessions",
        frame,
        tiny_catalogue(),
        tasks=TASKS,
        manifest=Manifest(kind="sessions"),
    )
    return SessionDataset.load([folder / "sessions"], length)


@pytest.mark.parametrize("kind", [VideoFeed, Dated])
def test_the_states_of_the_log_are_those_that_were_decided_in(kind, tmp_path):
    def world():
        return kind(num_items=NUM_ITEMS, horizon=HORIZON, history_length=LENGTH, warm_events=WARM)

    dataset = read_back(collect(world(), 50), tmp_path)
    rows, live = dataset.rows(), world()
    state = live.reset(50, make_generator(0))
    session = dataset.session_index(rows)
    for position in range(HORIZON):
        here = dataset.state(rows).step == position
        logged, seen = state_tensors(dataset.state(rows[here])), state_tensors(state)
        assert position > 0 or torch.equal(session[here], torch.arange(50))
        for name, value in logged.items():
            expected = seen[name][session[here]]
            if name.endswith("gap_s"):  # the log is in whole milliseconds
                torch.testing.assert_close(value, expected, atol=5.1e-4, rtol=1e-7)
            else:
                assert torch.equal(value, expected), name
        item_id = torch.zeros(50, dtype=torch.int64)
        item_id[session[here]] = dataset.item_id(rows[here])
        state = live.step(item_id).state
        after = state_tensors(dataset.next_state(rows[here]))
        assert torch.equal(after["gap_s"], state.gap_s[session[here]])
    assert float(state.history_gap_s.max()) > (100_000 if kind is Dated else 10)


def test_it_is_written_and_read_as_sessions(tmp_path):
    dataset = read_back(tiny_frame(), tmp_path)
    assert len(dataset) == tiny_frame().height
    starts = dataset.session_starts()
    assert len(starts) == NUM_SESSIONS
    expected = tiny_world().reset(NUM_SESSIONS, make_generator(0))
    state = dataset.state(starts)
    assert torch.equal(state.history_item_id, expected.history_item_id)
    assert torch.equal(state.history_feedback, expected.history_feedback)
    assert torch.equal(state.history_dwell_s, expected.history_dwell_s)
    assert torch.equal(state.history_mask, expected.history_mask)
    assert torch.equal(state.user_features, expected.user_features)
    assert torch.equal(state.user_id, expected.user_id)
    assert torch.equal(state.step, expected.step)


def test_the_events_are_what_the_world_answered():
    """Showing the logged items again gives the logged log."""
    world, frame = tiny_world(), in_session()
    world.reset(NUM_SESSIONS, make_generator(0))
    for position in range(HORIZON):
        events = frame.filter(pl.col("position") == position)
        rows = torch.from_numpy(events["session_id"].to_numpy().copy())
        item_id = torch.zeros(NUM_SESSIONS, dtype=torch.int64)
        item_id[rows] = torch.from_numpy(events["item_id"].to_numpy().copy())
        step = world.step(item_id)
        assert torch.equal(step.valid.nonzero()[:, 0], rows)
        logged = torch.from_numpy(events.select(TASKS).to_numpy().copy()).bool()
        assert torch.equal(step.response.feedback[rows], logged)
        assert step.response.dwell_s[rows].tolist() == events["dwell_s"].to_list()
        assert step.terminated[rows].tolist() == events["left"].to_list()


def test_a_session_cut_by_the_horizon_has_no_known_end():
    frame = in_session()
    last = frame.group_by("session_id", maintain_order=True).last()
    cut = last.filter(~pl.col("left"))
    assert 0 < cut.height < NUM_SESSIONS
    assert cut["position"].unique().to_list() == [HORIZON - 1]
    assert not cut["left_known"].any()
    assert last.filter("left")["left_known"].all()
    earlier = frame.join(last, on=["session_id", "position"], how="anti")
    assert earlier.height > 500
    assert earlier["left_known"].all()
    assert not earlier["left"].any()


def test_events_from_before_the_log_are_history_only():
    history = tiny_frame().filter(pl.col("position") < 0)
    assert history.height == NUM_SESSIONS * WARM
    assert history["split"].unique().to_list() == ["history"]
    assert history["propensity"].null_count() == history.height
    assert not history["left_known"].any()
    assert history["time_ms"].unique().to_list() == [0]  # how long ago, the world does not know


def test_every_choice_has_its_propensity():
    propensity = in_session()["propensity"]
    assert propensity.null_count() == 0
    assert propensity.is_between(0.1 / 24 - 1e-6, 0.999).all()
    greedy = (propensity > 0.5).sum() / len(propensity)
    assert 0.75 < greedy < 0.9  # half of the users explore 30 % of the time, half 10 %


def test_the_last_sessions_are_the_later_days():
    splits = in_session().group_by("session_id").agg(pl.col("split").unique())
    by_session = splits.sort("session_id")["split"].explode().to_list()
    assert by_session == ["train"] * 150 + ["calibration"] * 75 + ["test"] * 75


def test_held_out_are_users_by_share():
    users = tiny_frame().group_by("user_id").agg(pl.col("holdout").unique())
    assert users["holdout"].list.len().unique().to_list() == [1]
    assert 0.4 < users["holdout"].explode().sum() / users.height < 0.6
    assert not collect(tiny_world(), 20, holdout_share=0.0)["holdout"].any()


def test_same_seed_same_log_and_progress_is_told():
    told = []
    frame = collect(tiny_world(), progress=lambda done, total: told.append((done, total)))
    assert frame.equals(tiny_frame())
    assert told == [(step, HORIZON) for step in range(1, HORIZON + 1)]


@pytest.mark.parametrize("name", ["steady", "confounded"])
def test_other_presets_are_collected_alike(name):
    frame = collect(tiny_world(preset_name=name), 30)
    assert frame.filter(pl.col("position") == 0).height == 30
