"""Sessions that run on are encoded as if each of their states were encoded anew."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import pytest
import torch

from recomind.incremental import RunningEncodings
from recomind.ranker import RankerConfig, SessionRanker
from recomind.ranker.item_cache import ItemCache
from recomind.simulation.states import STATE_FIELDS, append_event, rows_of, state_from
from recomind.streams import make_generator
from simulators.video_feed.world import TASKS, VideoFeed
from tests.simulation.tiny import NUM_ITEMS, tiny_catalogue

NUM, LENGTH = 12, 9
CONFIG = RankerConfig(history_length=LENGTH, dim=8, hidden=16, id_buckets=61)


def make_ranker(seed=0, **changes) -> SessionRanker:
    """With random weights everywhere: a part that is zero could not be seen to be wrong."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ranker = SessionRanker(tiny_catalogue(), TASKS, 9, replace(CONFIG, **changes))
        for parameter in ranker.parameters():
            parameter.data.normal_(std=0.25)
    ranker.log_sharpness.data.fill_(1.0)
    ranker.pool.log_decay.data.copy_(torch.tensor([0.02, 0.2, 1.0]).log())
    return ranker.requires_grad_(False).precompute_items()


def make_world(**changes) -> VideoFeed:
    return VideoFeed(
        num_items=NUM_ITEMS, horizon=7, history_length=LENGTH, warm_events=4, **changes
    )


def items(seed, num=NUM):
    return torch.randint(NUM_ITEMS, (num,), generator=make_generator(seed))


def where_state(mask, ours, other):
    """`ours` where `mask`, else `other`."""
    chosen = {}
    for name in STATE_FIELDS:
        value = getattr(ours, name)
        wide = mask.reshape(mask.shape + (1,) * (value.dim() - 1))
        chosen[name] = torch.where(wide, value, getattr(other, name))
    return state_from(chosen)


def logits(ranker, encoding, item_id):
    return ranker.score(encoding, item_id[:, None])


def compare(running, state, item_id):
    """Largest difference to states encoded anew, of logits and state parts, by their size."""
    largest = 0.0
    for ranker, encoding in zip(running.rankers, running.encode_state(state), strict=True):
        anew = ranker.encode_state(state)
        pairs = [(logits(ranker, encoding, item_id), logits(ranker, anew, item_id))]
        pairs += [(getattr(encoding, n), getattr(anew, n)) for n in ("hidden_BM", "wide_BH")]
        largest = max(largest, *(float(((a - b).abs() / (1 + b.abs())).max()) for a, b in pairs))
    return largest


@torch.no_grad()
def run(running, num_steps=100, auto_reset=True):
    """Sessions of a world, and the largest difference at any step."""
    world, largest, counted = make_world(), 0.0, count_encoded(running)
    state = world.reset(NUM, make_generator(0), auto_reset=auto_reset)
    for step in range(num_steps):
        largest = max(largest, compare(running, state, items(step)))
        state = world.step(items(step)).state
    return largest, sum(counted)


def count_encoded(running):
    """The numbers of events that the cache asks for, as they come."""
    counted, encode = [], running._events._encode

    def counting(events, which):
        counted.append(events.history_mask.numel())
        return encode(events, which)

    running._events._encode = counting
    return counted


@pytest.mark.parametrize(
    "changes",
    [{}, {"recent_length": 5, "num_nearest": 2}, {"max_table_items": 0}],
    ids=["table", "old events", "no table"],
)
def test_a_hundred_steps_with_restarts_are_those_of_encoding_anew(changes):
    running = RunningEncodings([make_ranker(0, **changes), make_ranker(1, **changes)])
    difference, num_encoded = run(running)
    assert difference < 1e-5
    assert num_encoded < 100 * NUM * LENGTH / 3  # of what encoding anew costs


def test_sessions_that_stay_ended_are_those_of_encoding_anew():
    difference, _ = run(RunningEncodings([make_ranker()]), 12, auto_reset=False)
    assert difference < 1e-5


@torch.no_grad()
def test_a_transformer_reads_its_window_anew():
    ranker = make_ranker(num_layers=1, num_heads=2)
    running = RunningEncodings([ranker, make_ranker(1)])
    difference, _ = run(running, 12)
    assert difference < 1e-5
    assert running._incremental() == [None, running.rankers[1]]


@torch.no_grad()
@pytest.mark.parametrize(
    "field",
    [
        "history_item_id",
        "history_feedback",
        "history_dwell_s",
        "history_gap_s",
        "history_mask",
        "step",
    ],
)
def test_a_state_that_does_not_follow_is_encoded_anew(field):
    """Every field of a history counts, in every session."""
    running, world = RunningEncodings([make_ranker()]), make_world()
    state = world.reset(NUM, make_generator(0), auto_reset=True)
    running.encode_state(state)
    state = world.step(items(0)).state
    other = state.clone()
    value = getattr(other, field)
    value[3] = ~value[3] if value.dtype == torch.bool else value[3] + 1
    mask = torch.arange(NUM) != 5
    other = where_state(mask, other, make_world().reset(NUM, make_generator(9)))
    assert compare(running, other, items(1)) < 1e-5


@torch.no_grad()
def test_another_batch_and_back_again():
    running, world = RunningEncodings([make_ranker()]), make_world()
    state = world.reset(NUM, make_generator(0), auto_reset=True)
    for step in range(5):
        running.encode_state(state[: 4 + step])
        assert compare(running, state, items(step)) < 1e-5
        state = world.step(items(step)).state


@torch.no_grad()
def test_a_state_that_was_written_into_is_encoded_anew():
    running, world = RunningEncodings([make_ranker()]), make_world()
    state = world.reset(NUM, make_generator(0))
    running.encode_state(state)
    state.history_item_id[:, -1] = items(3)
    assert compare(running, state, items(1)) < 1e-5
    after = world.step(items(2)).state
    state.history_item_id[:, -1] = items(4)  # what is kept was of other items
    after.history_item_id[:, -2] = items(4)
    assert compare(running, after, items(1)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"max_table_items": 0}], ids=["table", "no table"])
def test_weights_that_changed_are_seen(changes):
    ranker = make_ranker(**changes)
    running, state = RunningEncodings([ranker]), make_world().reset(NUM, make_generator(0))
    before = running.encode_state(state)[0].values_BLD.clone()
    ranker.value.weight.mul_(2.0)
    if changes:
        next(ranker.items.net.parameters()).mul_(2.0)
        ranker.gate.weight.mul_(-1.0)
    else:
        ranker.precompute_items()
    assert compare(running, state, items(1)) < 1e-5
    after = running.encode_state(state)[0].values_BLD
    assert float((after - before).abs().max()) > 1e-2


def test_with_gradients_each_state_is_encoded_anew():
    ranker = make_ranker().requires_grad_(True)
    running, state = RunningEncodings([ranker]), make_world().reset(NUM, make_generator(0))
    logits(ranker, running.encode_state(state)[0], items(0)).sum().backward()
    assert ranker.value.weight.grad is not None
    assert running._events.parts == []


@torch.no_grad()
def test_a_copy_does_not_carry_what_is_kept():
    running = RunningEncodings([make_ranker()])
    state = make_world().reset(NUM, make_generator(0))
    running.encode_state(state)
    assert [len(part.rings) for part in running._events.parts] == [3]
    other = copy.deepcopy(running)
    assert other._events.parts == []
    assert compare(other, state, items(0)) < 1e-5


@torch.no_grad()
def test_events_kept_are_not_written_into_the_encoding_of_a_ranker():
    """`encode_state` gives tensors of its own, which later steps leave as they are."""
    ranker, world = make_ranker(), make_world()
    state = world.reset(NUM, make_generator(0), auto_reset=True)
    anew = ranker.encode_state(state)
    before = {f.name: getattr(anew, f.name).clone() for f in fields(anew)}
    running = RunningEncodings([ranker])
    for step in range(4):
        running.encode_state(state)
        state = world.step(items(step)).state
    assert all(torch.equal(getattr(anew, name), value) for name, value in before.items())


def gone_on(running, handle, world, seed):
    """The handle of the next state, handed over with the one event that came in each session."""
    item_id = items(seed, len(handle.state.step))
    response = world.step(item_id).response
    return running.append(handle, append_event(handle.state, item_id, response))


def compare_handed(running, handle, item_id):
    """As `compare`, of encodings that are asked for by handle."""
    largest = 0.0
    for ranker, encoding in zip(running.rankers, running.encode(handle), strict=True):
        anew = logits(ranker, ranker.encode_state(handle.state), item_id)
        largest = max(largest, float((logits(ranker, encoding, item_id) - anew).abs().max()))
    return largest


@torch.no_grad()
def test_what_is_handed_over_is_not_compared_and_right(monkeypatch):
    running = RunningEncodings([make_ranker(0), make_ranker(1, max_table_items=0)])
    world, others = make_world(), make_world().reset(NUM, make_generator(7))
    handle = running.find(world.reset(NUM, make_generator(0)))
    monkeypatch.setattr(running._events, "_others", None)  # what would compare
    for step in range(2 * LENGTH):
        handle = gone_on(running, handle, world, step)
        assert compare_handed(running, handle, items(step)) < 1e-5
        rows = torch.tensor([step % NUM, (step + 5) % NUM])
        mask = torch.ones(NUM, dtype=torch.bool).index_fill(0, rows, False)
        handle = running.replace(handle, where_state(mask, handle.state, others), rows)
        assert compare_handed(running, handle, items(step)) < 1e-5


@torch.no_grad()
def test_sessions_that_are_left_out_leave_the_others_as_they_were(monkeypatch):
    running = RunningEncodings([make_ranker(0), make_ranker(1, max_table_items=0)])
    world = make_world()
    handle = running.find(world.reset(NUM, make_generator(0)))
    monkeypatch.setattr(running._events, "_others", None)  # what would compare
    for step in range(LENGTH):
        handle = gone_on(running, handle, world, step)
        kept = torch.arange(NUM - step)[torch.arange(NUM - step) != step % 3]
        handle = running.keep(handle, rows_of(handle.state, kept), kept)
        world.set_state({k: v[kept] for k, v in world.get_state().items()})
        assert compare_handed(running, handle, items(step, len(kept))) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("how", ["another state", "written into", "weights", "cleared", "copied"])
def test_a_handle_that_is_no_longer_good_is_found_again(how):
    ranker, world = make_ranker(), make_world()
    running, state = RunningEncodings([ranker]), world.reset(NUM, make_generator(0))
    handle = running.find(state)
    match how:
        case "another state":
            running.encode_state(make_world().reset(NUM, make_generator(9)))
        case "written into":
            state.history_item_id[:, -1] = items(3)
        case "weights":
            ranker.value.weight.mul_(2.0)
        case "cleared":
            running.clear_cache()
        case "copied":
            running = copy.deepcopy(running)
    assert compare_handed(running, handle, items(1)) < 1e-5
    if how == "another state":
        running.encode_state(make_world().reset(NUM, make_generator(9)))
    assert compare_handed(running, gone_on(running, handle, world, 1), items(1)) < 1e-5


@torch.no_grad()
def test_a_handle_fits_no_other_cache():
    one, two = RunningEncodings([make_ranker()]), RunningEncodings([make_ranker()])
    first = one.find(make_world().reset(NUM, make_generator(0)))
    two.find(make_world().reset(NUM, make_generator(9)))
    assert compare_handed(two, first, items(1)) < 1e-5


@torch.no_grad()
def test_only_the_ranker_whose_weights_changed_is_encoded_as_a_whole():
    rankers, world = [make_ranker(0), make_ranker(1)], make_world()
    running, state = RunningEncodings(rankers), world.reset(NUM, make_generator(0))
    running.encode_state(state)
    state = world.step(items(0)).state
    running.encode_state(state)
    kept = [part.rings[2] for part in running._events.parts]
    rankers[1].value.weight.mul_(2.0)
    assert compare(running, state, items(1)) < 1e-5
    now = [part.rings[2] for part in running._events.parts]
    assert now[0] is kept[0]
    assert now[1] is not kept[1]
    assert compare(running, world.step(items(1)).state, items(2)) < 1e-5


@torch.no_grad()
def test_what_a_ranker_keeps_of_items_is_not_written_into():
    ranker, world = make_ranker(max_table_items=0), make_world()
    running, state = RunningEncodings([ranker]), world.reset(NUM, make_generator(0))
    handle = running.find(state)
    assert ranker.item_cache is not None
    kept = ranker.item_cache._of_last
    before = [part.clone() for part in kept]
    gone_on(running, handle, world, 1)
    assert all(torch.equal(part, one) for part, one in zip(kept, before, strict=True))


# Items without a table.


class Squares:
    """Computes (i, i * i), and remembers for which items it was asked."""

    def __init__(self):
        self.weight, self.asked = torch.ones(1), []

    def __call__(self, item_id):
        self.asked += item_id.tolist()
        value = item_id[:, None].float() * self.weight
        return value, value * item_id[:, None]


def take(cache, asked):
    one, two = cache.take(torch.tensor(asked))
    assert torch.equal(two, one * torch.tensor(asked)[..., None])
    return one[..., 0].tolist()


def test_items_are_computed_once_while_they_stay_at_their_place():
    squares = Squares()
    cache = ItemCache(squares, [squares.weight])
    assert take(cache, [5, 6, 7, 7]) == [5, 6, 7, 7]
    squares.asked.clear()
    assert take(cache, [[5], [6], [7]]) == [[5], [6], [7]]
    assert squares.asked == []
    assert take(cache, [5, 9, 7, 7, 8]) == [5, 9, 7, 7, 8]
    assert set(squares.asked) == {9, 8, 0}  # 0 is padding
    assert take(cache, [8, 9]) == [8, 9]


def test_known_items_are_computed_beforehand():
    squares = Squares()
    cache = ItemCache(squares, [squares.weight])
    cache.know(torch.tensor([[4, 2], [4, 9]]))
    assert take(cache, [9, 2]) == [9, 2]
    assert sorted(squares.asked) == [2, 4, 9]
    assert take(cache, [9, 3, 100]) == [9, 3, 100]
    assert take(cache, [9, 4, 2]) == [9, 4, 2]
    assert squares.asked.count(4) == 1


def test_all_is_forgotten_where_a_weight_was_written_to():
    squares = Squares()
    cache = ItemCache(squares, [squares.weight])
    cache.know(torch.tensor([4]))
    assert take(cache, [5, 4]) == [5, 4]
    squares.weight.mul_(3.0)
    assert take(cache, [5, 4]) == [15, 12]
    assert take(cache, [4]) == [12]
