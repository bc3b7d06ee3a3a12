"""Advantages and batches against a slow loop that is obviously right."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.core import DEFAULT_MODULE_ID

from recomind.streams import make_generator
from recomind.training.actor_critic.rollout import (
    OnPolicyRows,
    PolicyBatch,
    from_batch,
    joined,
    to_batch,
)
from tests.training.test_replay import as_rows, simulate

GAMMA, LAMBDA = 0.8, 0.6


def naive(columns, value, gamma: float, lam: float) -> dict[int, float]:
    """Name of a state -> the sum of its discounted one-step errors within the session."""
    found = {}
    num_rows, num_sessions = columns["valid"].shape
    for session in range(num_sessions):
        for start in range(num_rows - 1):
            if not columns["valid"][start, session]:
                continue
            total, factor, row = 0.0, 1.0, start
            while row < num_rows - 1:
                stays = gamma * (1.0 - float(columns["leave_rate"][row, session]))
                later = stays * float(value[row + 1, session])
                error = float(columns["reward"][row, session]) + later - float(value[row, session])
                total += factor * error
                factor *= stays * lam
                if columns["terminated"][row, session] or columns["truncated"][row, session]:
                    break
                row += 1
            found[int(columns["state.user_id"][start, session])] = total
    return found


def learnt(columns, cuts, value) -> PolicyBatch:
    """What is learnt of rows that come in rollouts, cut before the rows `cuts`."""
    rows, parts = OnPolicyRows(), []
    for start, stop in zip([0, *cuts], [*cuts, len(columns["valid"])], strict=True):
        rows.add(as_rows(columns, start, stop, start > 0))
        first = stop - rows.shape()[0]
        parts.append(rows.batch(value[first:stop], GAMMA, LAMBDA))
    return joined(parts)


@given(num_rows=st.integers(2, 14), seed=st.integers(0, 2**31), known=st.booleans())
@settings(max_examples=40, deadline=None)
def test_advantages_equal_the_slow_loop(num_rows, seed, known):
    columns = simulate(num_rows, 3, seed, known=known)
    value = torch.randn(num_rows, 3, generator=make_generator(seed))
    expected = naive(columns, value, GAMMA, LAMBDA)
    got = learnt(columns, [], value)
    assert sorted(got.state.user_id.tolist()) == sorted(expected)
    for i, name in enumerate(got.state.user_id.tolist()):
        assert float(got.advantage[i]) == pytest.approx(expected[name], abs=1e-5)
        target = expected[name] + float(value.flatten()[name])
        assert float(got.value_target[i]) == pytest.approx(target, abs=1e-5)
        assert float(got.log_propensity[i]) == -name


def test_every_event_is_learnt_from_once_whatever_the_rollouts():
    columns = simulate(13, 3, 5)
    value = torch.zeros(13, 3)
    whole, cut = learnt(columns, [], value), learnt(columns, [4, 5, 9], value)
    assert sorted(cut.state.user_id.tolist()) == sorted(whole.state.user_id.tolist())


def test_a_gap_is_not_learnt_across():
    columns = simulate(13, 3, 5)
    rows = OnPolicyRows()
    rows.add(as_rows(columns, 0, 6, follows=False))
    rows.add(as_rows(columns, 8, 13, follows=False))  # another runner took over
    assert len(rows) == 4
    assert int(rows.states().user_id.min()) == 24


def test_goes_on_exactly_after_a_stop():
    columns = simulate(13, 3, 5)
    whole, stopped = OnPolicyRows(), OnPolicyRows()
    stopped.load_state_dict(OnPolicyRows().state_dict())  # before the first rollout
    whole.add(as_rows(columns, 0, 6, follows=False))
    stopped.load_state_dict(whole.state_dict())
    assert (len(whole), len(stopped)) == (5, 0)
    for rows in (whole, stopped):
        rows.add(as_rows(columns, 6, 13, follows=True))
    value = torch.randn(8, 3, generator=make_generator(0))
    one, two = (rows.batch(value, GAMMA, LAMBDA) for rows in (whole, stopped))
    assert torch.equal(one.state.user_id, two.state.user_id)
    assert torch.equal(one.advantage, two.advantage)


def test_finds_the_slot_that_was_shown():
    columns = simulate(6, 2, 3)
    columns["pool_mask"] = torch.ones_like(columns["pool_mask"])
    columns["pool_mask"][..., 0] = False
    columns["pool_item_id"][..., 0] = columns["pool_item_id"][..., 2]  # padding may repeat an id
    columns["item_id"] = columns["pool_item_id"][..., 2]
    got = learnt(columns, [], torch.zeros(6, 2))
    assert bool((got.slot == 2).all())


@pytest.mark.parametrize("numpy", [False, True])
def test_batches_survive_the_way_to_the_learner(numpy):
    events = learnt(simulate(6, 2, 3), [], torch.zeros(6, 2)).take(torch.tensor([3, 0, 2]))
    columns = to_batch(events, numpy=numpy)[DEFAULT_MODULE_ID]
    tensors = {name: torch.as_tensor(value) for name, value in columns.items()}
    got = from_batch(tensors)
    assert torch.equal(got.state.user_id, events.state.user_id)
    for name in ("item_id", "allowed", "slot", "log_propensity", "advantage", "value_target"):
        assert torch.equal(getattr(got, name), getattr(events, name))
