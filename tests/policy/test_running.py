"""What is kept of running sessions changes nothing of Q; what is faster is held against it."""

from __future__ import annotations

import copy

import pytest
import torch

from recomind.errors import ConfigError
from recomind.incremental import TrunkItems, precision
from recomind.policy import PolicyConfig, Precision, QNetwork, RunningQ, score_parity
from recomind.simulation import BatchedSessions
from recomind.streams import make_generator
from simulators.video_feed.world import VideoFeed
from tests.simulation.tiny import NUM_ITEMS, WEIGHTS, tiny_ranker

NUM, NUM_CANDIDATES, LENGTH = 12, 7, 9


def make_network(**changes) -> QNetwork:
    """As if it had learned: a residual of 0 could not be seen to be wrong."""
    with torch.enable_grad():  # the ranker is fitted at its first use
        network = QNetwork(tiny_ranker(0), WEIGHTS, PolicyConfig(**changes))
    generator = make_generator(5)
    with torch.no_grad():
        for tensor in network.trainable_state().values():
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return network.eval()


def make_world() -> BatchedSessions:
    return VideoFeed(num_items=NUM_ITEMS, horizon=7, history_length=LENGTH, warm_events=4)


def items(seed, *shape):
    return torch.randint(NUM_ITEMS, shape, generator=make_generator(seed))


def largest_difference(ours, theirs):
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))


def encoded_events(network, monkeypatch):
    """Numbers of events that the network's rankers encode, as they come."""
    counted = []
    for ranker in (network.frozen, network.trunk):
        encode = ranker.encode_events

        def counting(events, snapshot=None, numbers=None, encode=encode):
            counted.append(events.history_mask.numel())
            return encode(events, snapshot, numbers)

        monkeypatch.setattr(ranker, "encode_events", counting)
    return counted


@torch.no_grad()
@pytest.mark.parametrize("chunk_candidates", [0, 3, 20])
def test_a_hundred_steps_with_restarts_are_those_of_the_network(monkeypatch, chunk_candidates):
    network, world = make_network(chunk_candidates=chunk_candidates), make_world()
    plain, running, largest = copy.deepcopy(network), RunningQ(network), 0.0
    counted = encoded_events(network, monkeypatch)
    state = world.reset(NUM, make_generator(0), auto_reset=True)
    for step in range(100):
        pool = items(step, NUM, NUM_CANDIDATES)
        ours, anew = running.q_values(state, pool), plain.q_values(state, pool)
        largest = max(largest, largest_difference(ours, anew))
        state = world.step(pool[:, 0]).state
    assert largest < 1e-5
    assert float((anew[0] - anew[1]).abs().max()) > 0.05  # the residual is there
    assert sum(counted) < 2 * 100 * NUM * LENGTH / 3


@torch.no_grad()
def test_sessions_that_leave_the_batch_are_not_a_reason_to_encode_the_others(monkeypatch):
    network, world = make_network(), make_world()
    plain, running = copy.deepcopy(network), RunningQ(network)
    counted = encoded_events(network, monkeypatch)
    state = world.reset(64, make_generator(0))
    alive = torch.ones(64, dtype=torch.bool)
    running.q_values(state, items(0, 64, NUM_CANDIDATES))
    first, sizes = sum(counted), []
    counted.clear()
    for step in range(1, 6):
        result = world.step(items(step, 64))
        alive = alive & ~(result.terminated | result.truncated)
        state = result.state[alive]
        pool = items(step, len(state.step), NUM_CANDIDATES)
        sizes.append(len(state.step))
        ours, anew = running.q_values(state, pool), plain.q_values(state, pool)
        assert largest_difference(ours, anew) < 1e-5
    assert len(set(sizes)) > 2
    assert sum(counted) < first


@torch.no_grad()
def test_a_weight_sync_is_seen_at_once_and_the_frozen_events_are_kept(monkeypatch):
    network = make_network()
    running, state = RunningQ(network), make_world().reset(NUM, make_generator(0))
    pool = items(0, NUM, NUM_CANDIDATES)
    before = running.q_values(state, pool)
    counted = encoded_events(network, monkeypatch)
    other = {name: 1.5 * t for name, t in network.trainable_state().items()}
    network.load_trainable_state(other)
    ours, asked = running.q_values(state, pool), list(counted)
    assert largest_difference(ours, network.q_values(state, pool)) < 1e-5
    assert largest_difference(ours, before) > 1e-2
    assert asked == [NUM * state.history_mask.shape[1]]  # the trunk's alone


def test_an_optimizer_step_is_seen_at_once():
    network = make_network()
    running, state = RunningQ(network), make_world().reset(NUM, make_generator(0))
    pool, parameters = items(0, NUM, 300), [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(3):
        before = running.q_values(state, pool)
        network.q_values(state, pool)[0].square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            anew = network.q_values(state, pool)
        assert largest_difference(running.q_values(state, pool), anew) < 1e-5
        assert largest_difference(before, anew) > 1e-4


@torch.no_grad()
def test_forgetting_makes_what_follows_depend_on_the_state_alone():
    network, world = make_network(), make_world()
    running = RunningQ(network)
    state = world.reset(NUM, make_generator(0), auto_reset=True)
    for step in range(5):
        running.q_values(state, items(step, NUM, NUM_CANDIDATES))
        state = world.step(items(step, NUM)).state
    running.clear_cache()
    pool = items(9, NUM, NUM_CANDIDATES)
    ours, fresh = running.q_values(state, pool), RunningQ(network).q_values(state, pool)
    assert all(torch.equal(a, b) for a, b in zip(ours, fresh, strict=True))


# The item half of the trunk.


@torch.no_grad()
def test_the_table_is_computed_once_it_has_paid():
    trunk = make_network().trunk
    computed, half = [], trunk.tower_from_vectors

    def counted(item_BKD):
        computed.append(item_BKD.shape[:-1])
        return half(item_BKD)

    trunk.tower_from_vectors = counted
    kept, asked = TrunkItems(trunk), items(0, 2, NUM_ITEMS)
    for weights in range(2):
        for _ in range(4):
            got, expected = kept.take(asked), half(trunk.item_vectors(asked))
            for name in ("vector", "unit", "part"):
                torch.testing.assert_close(getattr(got, name), getattr(expected, name))
        few = 0 if weights else 1  # it paid under the last weights: at once
        assert len(computed) == few + 1
        assert computed == [asked.shape] * few + [(NUM_ITEMS,)]
        trunk.gate.weight.mul_(1.1)
        computed.clear()


# Precision and compilation.


def worlds_scores(network, num=NUM):
    state, pool = make_world().reset(num, make_generator(0)), items(0, num, 20)
    running = RunningQ(network)
    with torch.no_grad():
        return running, running.q_values(state, pool), network.q_values(state, pool)


def test_bfloat16_is_near_and_says_how_near():
    running, ours, plain = worlds_scores(make_network(precision=Precision.bfloat16), num=40)
    assert running.is_fast
    assert ours[0].dtype == torch.float32
    assert 1e-6 < largest_difference(ours, plain) <= 0.02
    anew = score_parity(ours, plain)
    assert running.parity is not None
    assert running.parity.max_abs_difference == pytest.approx(anew.max_abs_difference, abs=1e-5)
    assert running.parity.share_moved == pytest.approx(anew.share_moved, abs=0.01)
    assert anew.share_moved > 0
    assert anew.share_other_best < 0.2


def test_bfloat16_follows_the_weights():
    network = make_network(precision=Precision.bfloat16)
    running, before, _ = worlds_scores(network)
    network.load_trainable_state({k: 1.3 * t for k, t in network.trainable_state().items()})
    state, pool = make_world().reset(NUM, make_generator(0)), items(0, NUM, 20)
    with torch.no_grad():
        ours, plain = running.q_values(state, pool), network.q_values(state, pool)
    assert largest_difference(ours, plain) < 0.03
    assert largest_difference(ours, before) > 0.05


def test_what_is_too_far_from_float32_is_not_used_and_that_is_said_once(caplog):
    network = make_network(precision=Precision.bfloat16, score_tolerance=1e-7)
    running, ours, plain = worlds_scores(network)
    state, pool = make_world().reset(NUM, make_generator(0)), items(0, NUM, 20)
    running.q_values(state, pool)
    assert largest_difference(ours, plain) < 1e-5
    assert not running.is_fast
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "policy.precision=bfloat16" in caplog.text
    assert "> 1e-07" in caplog.text


def test_a_compiler_that_fails_is_not_used_and_that_is_said_once(monkeypatch, caplog):
    def broken(joint):
        def fails(*args):
            raise RuntimeError("no compiler here")

        return fails

    monkeypatch.setattr(precision.torch, "compile", broken)
    running, ours, plain = worlds_scores(make_network(compile=True))
    assert largest_difference(ours, plain) < 1e-5
    assert not running.is_fast
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no compiler here" in caplog.text


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], (0.0, 0.0, 0.0)),
        ([[3.0, 1.0, 1.5], [1.0, 2.0, 3.0]], (1.0, 2 / 6, 0.0)),
        ([[3.0, 2.0, 1.0], [1.0, 3.5, 3.0]], (1.5, 2 / 6, 0.5)),
        ([[3.0, 2.0, float("nan")], [1.0, 2.0, 3.0]], (float("inf"), None, None)),
    ],
)
def test_parity_by_hand(ours, expected):
    plain = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    found = score_parity((torch.tensor(ours), plain), (plain, plain))
    assert found.max_abs_difference == expected[0]
    if expected[1] is not None:
        assert found.share_moved == pytest.approx(expected[1])
        assert found.share_other_best == expected[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score_tolerance": 0.0}, "policy.score_tolerance"),
        ({"chunk_candidates": -1}, "policy.chunk_candidates"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        PolicyConfig(**changes)
