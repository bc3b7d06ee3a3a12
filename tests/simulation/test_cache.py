"""What the simulator keeps from step to step changes nothing of its sessions."""

from __future__ import annotations

import copy

import pytest
import torch

from recomind.incremental import Handle
from recomind.simulation import load_simulator, state_tensors
from recomind.simulation.running import RunningSessions
from recomind.simulation.summary import SessionSummary
from recomind.streams import make_generator
from tests.simulation.tiny import HORIZON, NUM_ITEMS, WEIGHTS

NUM = 40


@pytest.fixture
def simulator(simulator_folder, ranker_folder):
    return load_simulator(simulator_folder, ranker_folder, WEIGHTS)


class FromScratch(RunningSessions):
    """Encodes every state as a whole, as if nothing had come before it."""

    def find(self, state):
        return Handle(state, 0)

    def append(self, handle, after):
        return self.find(after)

    def replace(self, handle, after, rows):
        return self.find(after)

    def encode(self, handle):
        return [ranker.encode_state(handle.state) for ranker in self.rankers]

    def summarise(self, handle, shown=None):
        return self.summary(handle.state, shown=shown)


def without_cache(simulator):
    other = copy.copy(simulator)
    other._kept = FromScratch(simulator.rankers, simulator._summary)
    return other


def items(seed, num=NUM):
    return torch.randint(NUM_ITEMS, (num,), generator=make_generator(seed))


def assert_same_step(one, two):
    for ours, theirs in ((one.state, two.state), (one.response, two.response)):
        pairs = zip(dict(ours.items()).items(), dict(theirs.items()).values(), strict=True)
        for (name, a), b in pairs:
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5, msg=name)
    for name in ("reward", "terminated", "truncated", "valid"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name


@pytest.mark.parametrize("auto_reset", [True, False])
def test_a_hundred_steps_are_those_of_encoding_anew(simulator, auto_reset):
    plain, num_ended = without_cache(simulator), 0
    for env in (simulator, plain):
        env.reset(NUM, make_generator(0), auto_reset=auto_reset)
    for step in range(100):
        one, two = simulator.step(items(step)), plain.step(items(step))
        assert_same_step(one, two)
        num_ended += int((one.terminated | one.truncated).sum())
    assert num_ended >= (NUM * 100 // (HORIZON + 1) if auto_reset else NUM)


def test_it_goes_on_from_a_state_that_was_set(simulator):
    simulator.reset(NUM, make_generator(0), auto_reset=True)
    for step in range(5):
        simulator.step(items(step))
    kept = {name: value.clone() for name, value in simulator.get_state().items()}
    expected = [simulator.step(items(step)) for step in range(5, 9)]
    simulator.set_state(kept)
    for step, one in enumerate(expected, 5):
        assert_same_step(simulator.step(items(step)), one)


def test_only_the_states_of_the_environment_are_kept(simulator):
    state = simulator.reset(NUM, make_generator(0), auto_reset=True)
    other = state.clone()
    with torch.no_grad():
        simulator.probabilities(other, items(0))
        simulator.hazard(other)
    assert simulator._kept is None
    simulator.step(items(0))
    assert isinstance(simulator._kept, RunningSessions)


def test_changed_members_are_seen_at_once(simulator):
    plain = without_cache(simulator)
    for env in (simulator, plain):
        env.reset(NUM, make_generator(0), auto_reset=True)
        env.step(items(0))
        env.rankers = env.rankers[::-1]
        env.fatigue_nets = env.fatigue_nets[::-1]
    plain._kept = FromScratch(plain.rankers, plain._summary)
    assert_same_step(simulator.step(items(1)), plain.step(items(1)))


def test_the_state_of_a_step_is_handed_over_and_not_compared(simulator, monkeypatch):
    simulator.reset(NUM, make_generator(0), auto_reset=True)
    simulator.step(items(0))
    monkeypatch.setattr(simulator._kept._encodings._events, "find", None)  # what would compare
    for step in range(1, 2 * HORIZON):
        simulator.step(items(step))


def test_the_summary_of_running_sessions_is_the_summary(simulator):
    summary = SessionSummary(simulator.catalogue, categories=True)
    running = RunningSessions(simulator.rankers, summary)
    state = simulator.reset(NUM, make_generator(0), auto_reset=True)
    largest = 0.0
    for step in range(30):
        found, shown = running.find(state), items(step)
        pairs = [(running.summarise(found), summary(state))]
        pairs.append((running.summarise(found, shown), summary(state, shown=shown)))
        largest = max(largest, *(float((ours - anew).abs().max()) for ours, anew in pairs))
        state = simulator.step(shown).state
    assert largest < 1e-4
    assert all(float(anew.abs().max()) > 1 for _, anew in pairs)


def test_states_that_were_returned_stay_as_they_were(simulator):
    state = simulator.reset(NUM, make_generator(0), auto_reset=True)
    kept = []
    for step in range(20):
        kept.append((state, {k: v.clone() for k, v in state_tensors(state).items()}))
        state = simulator.step(items(step)).state
    for returned, before in kept:
        now = state_tensors(returned)
        assert all(torch.equal(before[name], now[name]) for name in before)
