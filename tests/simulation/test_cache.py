"""What the simulator keeps from step to step changes nothing of its sessions."""

from __future__ import annotations

import copy

import pytest
import torch

from recomind.simulation import load_simulator
from recomind.simulation.environment import state_tensors
from recomind.simulation.running import RunningSessions
from recomind.simulation.summary import summarise
from recomind.streams import make_generator
from tests.simulation.tiny import HORIZON, NUM_ITEMS, WEIGHTS

NUM = 40


@pytest.fixture
def simulator(simulator_folder, ranker_folder):
    return load_simulator(simulator_folder, ranker_folder, WEIGHTS)


def without_cache(simulator):
    other = copy.copy(simulator)
    other._is_running = lambda state: False
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


@torch.no_grad()
def test_probabilities_and_hazards_are_those_of_encoding_anew(simulator):
    simulator.reset(NUM, make_generator(0), auto_reset=True)
    plain = without_cache(simulator)
    for step in range(2 * HORIZON):
        state = simulator.step(items(step)).state
        for name, given in (("probabilities", (state, items(99))), ("hazard", (state,))):
            kept, anew = getattr(simulator, name)(*given), getattr(plain, name)(*given)
            torch.testing.assert_close(kept, anew, atol=1e-5, rtol=0)


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


def test_a_changed_fatigue_net_or_member_is_seen_at_once(simulator):
    simulator.reset(NUM, make_generator(0), auto_reset=True)
    state = simulator.step(items(0)).state
    with torch.no_grad():
        simulator.rankers = simulator.rankers[::-1]
        kept = simulator.member_probabilities(state, items(1))
        anew = without_cache(simulator).member_probabilities(state, items(1))
    torch.testing.assert_close(kept, anew, atol=1e-6, rtol=0)


def test_the_summary_of_running_sessions_is_the_summary(simulator):
    running = RunningSessions(simulator.rankers, simulator.catalogue)
    state = simulator.reset(NUM, make_generator(0), auto_reset=True)
    largest = 0.0
    for step in range(30):
        ours, anew = running.summarise(state), summarise(state, simulator.catalogue)
        largest = max(largest, float((ours - anew).abs().max()))
        state = simulator.step(items(step)).state
    assert largest < 1e-4
    assert float(anew.abs().max()) > 1


def test_states_that_were_returned_stay_as_they_were(simulator):
    state = simulator.reset(NUM, make_generator(0), auto_reset=True)
    kept = []
    for step in range(20):
        kept.append((state, {k: v.clone() for k, v in state_tensors(state).items()}))
        state = simulator.step(items(step)).state
    for returned, before in kept:
        now = state_tensors(returned)
        assert all(torch.equal(before[name], now[name]) for name in before)
