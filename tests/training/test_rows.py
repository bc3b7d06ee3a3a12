import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recomind.streams import make_generator
from recomind.training.rows import SessionRows, pack_bits, pack_state, unpack_bits, unpack_state
from tests.training.tiny import TinyWorld


@given(st.integers(1, 20), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_bits_come_back(num_flags, seed):
    flags = torch.rand(3, 5, num_flags, generator=make_generator(seed)) < 0.5
    packed = pack_bits(flags)
    assert packed.dtype == torch.uint8
    assert packed.shape == (3, 5, -(-num_flags // 8))
    assert torch.equal(unpack_bits(packed, num_flags), flags)


def test_first_flag_is_the_lowest_bit():
    assert pack_bits(torch.tensor([[True, False, True]])).tolist() == [[5]]


def test_states_come_back_exactly():
    world = TinyWorld()
    state = world.reset(7, make_generator(0))
    for item in (1, 3, 1):
        state = world.step(torch.full((7,), item)).state
    assert bool((state.gap_s > 0).any() & (state.history_gap_s > 0).any())
    packed = pack_state(state)
    again = unpack_state(packed, 2)
    assert packed["history_item_id"].dtype == torch.int32
    for name in map(str, state.to_tensordict().keys()):
        value, other = getattr(state, name), getattr(again, name)
        assert other.dtype == value.dtype
        assert torch.equal(other, value), name


def test_rows_cross_processes_as_numpy_and_come_back_writable():
    columns = {"reward": torch.arange(6.0).view(2, 3), "valid": torch.ones(2, 3, dtype=torch.bool)}
    rows = SessionRows(
        columns=columns, num_tasks=2, runner=1, follows=True, num_valid=6, returns=[1.0]
    )
    assert type(rows.__getstate__()["columns"]["reward"]).__name__ == "ndarray"
    state = rows.__getstate__()
    for array in state["columns"].values():
        array.setflags(write=False)  # as they arrive from the object store
    other = SessionRows.__new__(SessionRows)
    other.__setstate__(state)
    assert torch.equal(other.columns["reward"].add_(1), columns["reward"] + 1)
    assert (other.num_tasks, other.runner, other.follows, other.returns) == (2, 1, True, [1.0])
    assert other.env_steps() == other.agent_steps() == 6
    assert torch.equal(copy.deepcopy(rows).columns["valid"], columns["valid"])
