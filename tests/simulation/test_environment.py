"""History, horizon, reward, endings and auto-reset, kept once for all environments."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recomind.artifacts import load_tensors, save_tensors
from recomind.errors import ConfigError, SchemaError
from recomind.simulation import append_event, task_weights
from recomind.simulation.states import state_from, state_tensors
from recomind.streams import make_generator
from recomind.types import Response, SessionState
from tests.simulation.tiny import NUM_ITEMS, tiny_world


def items(num, seed=0):
    return torch.randint(NUM_ITEMS, (num,), generator=make_generator(seed))


def equal_states(one, two, rows: Any = slice(None)):
    ours, theirs = state_tensors(one), state_tensors(two)
    return all(torch.equal(ours[name][rows], theirs[name][rows]) for name in ours)


def test_an_event_goes_to_the_end_and_the_oldest_drops_out():
    state = SessionState(
        user_id=torch.tensor([5, 6]),
        user_features=torch.tensor([[0.5], [0.6]]),
        history_item_id=torch.tensor([[0, 17, 4], [1, 2, 3]]),
        history_feedback=torch.tensor(
            [[[False, False], [True, False], [False, True]], [[True, True]] * 3]
        ),
        history_dwell_s=torch.tensor([[0.0, 1.5, 2.5], [1.0, 2.0, 3.0]]),
        history_gap_s=torch.tensor([[0.0, 0.0, 30.0], [5.0, 6.0, 7.0]]),
        history_mask=torch.tensor([[False, True, True], [True, True, True]]),
        gap_s=torch.tensor([4.0, 0.0]),
        step=torch.tensor([1, 7]),
        batch_size=[2],
    )
    response = Response(
        feedback=torch.tensor([[True, True], [False, True]]),
        dwell_s=torch.tensor([9.0, 8.0]),
        left=torch.tensor([False, True]),
        batch_size=[2],
    )
    after = append_event(state, torch.tensor([8, 9]), response)
    assert after.history_item_id.tolist() == [[17, 4, 8], [2, 3, 9]]
    assert after.history_dwell_s.tolist() == [[1.5, 2.5, 9.0], [2.0, 3.0, 8.0]]
    assert after.history_gap_s.tolist() == [[0.0, 30.0, 4.0], [6.0, 7.0, 0.0]]
    assert after.gap_s.tolist() == [9.0, 8.0]
    assert after.history_mask.tolist() == [[True, True, True]] * 2
    assert after.history_feedback[0].tolist() == [[True, False], [False, True], [True, True]]
    assert after.history_feedback[1].tolist() == [[True, True], [True, True], [False, True]]
    assert after.step.tolist() == [2, 8]
    assert after.in_session.tolist() == [[False, True, True], [True, True, True]]
    assert after.user_features.tolist() == state.user_features.tolist()
    assert state.history_item_id.tolist() == [[0, 17, 4], [1, 2, 3]]  # as it was


def test_a_state_of_other_fields_is_refused():
    state = tiny_world().reset(3, make_generator(0))
    assert equal_states(state_from(state_tensors(state)), state)
    old = {name: value for name, value in state_tensors(state).items() if name != "gap_s"}
    with pytest.raises(SchemaError, match=r"not the fields of a state; .*expected: .*'gap_s'"):
        state_from(old)


def test_an_ended_session_stays_as_it_ended():
    world = tiny_world(preset_name="steady")
    state = world.reset(100, make_generator(0))
    ended = torch.zeros(100, dtype=torch.bool)
    for index in range(15):
        step = world.step(items(100, index))
        assert torch.equal(step.valid, ~ended)
        assert equal_states(step.state, state, ended)
        assert not bool(step.reward[ended].any())
        assert not bool((step.terminated | step.truncated)[ended].any())
        assert torch.equal(step.state.step, state.step + step.valid)
        ended |= step.terminated | step.truncated
        state = step.state
    assert bool(ended.all())
    assert int(state.step.max()) == 12
    assert len(state.step.unique()) > 5


def test_sessions_that_have_ended_are_not_computed(monkeypatch):
    world = tiny_world()
    world.reset(40, make_generator(3))
    respond, sizes = world._respond, []

    def counted(state, hidden, item_id, streams):
        sizes.append(len(item_id))
        return respond(state, hidden, item_id, streams)

    monkeypatch.setattr(world, "_respond", counted)
    running, items = [], torch.arange(40) % NUM_ITEMS
    while bool((~world._ended).any()):
        running.append(int((~world._ended).sum()))
        world.step(items)
    assert sizes == running
    assert min(running) < 40
    after = world.step(items)  # with nobody left
    assert len(sizes) == len(running)
    assert not bool(after.valid.any() | after.terminated.any() | after.reward.any())


def test_auto_reset_begins_a_session_one_step_after_an_end():
    world, other = tiny_world(preset_name="steady"), tiny_world(preset_name="steady")
    world.reset(60, make_generator(0), auto_reset=True)
    ended, begun = torch.zeros(60, dtype=torch.bool), 0
    for index in range(40):
        seeds = world.streams.seeds
        step = world.step(items(60, index))
        assert torch.equal(step.valid, ~ended)
        assert not bool(step.reward[ended].any())
        assert torch.equal(world.streams.seeds != seeds, ended)  # a session of its own
        assert equal_states(step.state[ended], other.reset_to(world.streams.seeds)[ended])
        assert bool((step.state.step[~ended] > 0).all())
        begun += int(ended.sum())
        ended = step.terminated | step.truncated
    assert begun > 120


def test_the_last_state_of_a_session_is_returned_before_the_next_one():
    world = tiny_world(preset_name="steady", horizon=3)
    state = world.reset(50, make_generator(0), auto_reset=True)
    for index in range(3):
        before, state = state, world.step(items(50, index)).state
    third = state.step == 3
    assert int(third.sum()) > 20
    assert torch.equal(state.history_item_id[third, :-1], before.history_item_id[third, 1:])
    assert torch.equal(state.history_item_id[third, -1], items(50, 2)[third])


@pytest.mark.parametrize("preset_name", ["steady", "fatigue"])
def test_a_run_goes_on_bit_for_bit_where_its_state_was_taken(preset_name, tmp_path):
    world = tiny_world(preset_name=preset_name)
    world.reset(40, make_generator(0), auto_reset=True)
    for index in range(9):
        world.step(items(40, index))
    save_tensors(tmp_path / "state.safetensors", world.get_state())
    whole = [world.step(items(40, 100 + index)) for index in range(25)]

    again = tiny_world(preset_name=preset_name)
    state = again.set_state(load_tensors(tmp_path / "state.safetensors"))
    assert len(state) == 40
    for index, expected in enumerate(whole):
        step = again.step(items(40, 100 + index))
        assert equal_states(step.state, expected.state)
        assert torch.equal(step.response.feedback, expected.response.feedback)
        assert torch.equal(step.response.dwell_s, expected.response.dwell_s)
        assert torch.equal(step.reward, expected.reward)
        assert torch.equal(step.valid, expected.valid)
        assert torch.equal(step.terminated, expected.terminated)
        assert torch.equal(step.truncated, expected.truncated)


def test_taking_the_state_does_not_change_with_later_steps():
    world = tiny_world()
    world.reset(30, make_generator(0), auto_reset=True)
    taken = world.get_state()
    copies = {name: value.clone() for name, value in taken.items()}
    for index in range(20):
        world.step(items(30, index))
    assert all(torch.equal(copies[name], taken[name]) for name in copies)


def test_a_horizon_of_one_ends_every_session_at_once():
    world = tiny_world(preset_name="steady", horizon=1)
    world.reset(200, make_generator(0))
    step = world.step(items(200))
    assert torch.equal(step.truncated, ~step.terminated)
    assert 0 < int(step.terminated.sum()) < 100
    assert not bool(world.step(items(200)).valid.any())


def test_the_reward_is_the_weighted_feedback():
    world = tiny_world(reward_weights={"like": 3.0, "watch_10s": 1.0, "hide": -2.0})
    world.reset(5_000, make_generator(0))
    step = world.step(items(5_000))
    watch, _, like, hide = step.response.feedback.float().unbind(1)
    assert torch.equal(step.reward, watch + 3 * like - 2 * hide)
    assert float(like.sum()) > 0 < float(hide.sum())


def test_weights_stand_in_the_order_of_the_tasks():
    assert task_weights(("a", "b", "c"), {"c": 2, "a": -1.0}).tolist() == [-1.0, 0.0, 2.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"wotch": 1.0}, r"weight for an unknown task; got: \['wotch'\]; expected: .*watch_10s"),
        ({"like": 0.0}, "every task weighs 0"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights, message):
    with pytest.raises(ConfigError, match=message):
        tiny_world(reward_weights=weights)


def test_sessions_and_steps_must_be_at_least_one():
    with pytest.raises(ConfigError, match="no sessions to run; got: 0"):
        tiny_world().reset(0, make_generator(0))
    with pytest.raises(ConfigError, match="at least one step; got: 0"):
        tiny_world(horizon=0)
