"""The replay against a slow loop that is obviously right."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recomind.errors import ConfigError
from recomind.streams import make_generator
from recomind.training.dqn.replay import SessionReplay, sample_across
from recomind.training.rows import SessionRows

GAMMA = 0.8


def simulate(
    num_rows: int, num_sessions: int, seed: int, *, known: bool = False
) -> dict[str, torch.Tensor]:
    """Columns of sessions with NEXT_STEP auto-reset; every state is named by `user_id`.

    Where the rate of leaving is `known` it is a number of its own, whatever was drawn.
    """
    generator = make_generator(seed)
    ended = torch.rand(num_rows, num_sessions, generator=generator) < 0.35
    truncated = torch.rand(num_rows, num_sessions, generator=generator) < 0.5
    valid = torch.ones(num_rows, num_sessions, dtype=torch.bool)
    for row in range(1, num_rows):
        valid[row] = ~(ended[row - 1] & valid[row - 1])
    ended &= valid
    name = torch.arange(num_rows * num_sessions).view(num_rows, num_sessions)
    pool = (name[..., None] * 10 + torch.arange(3)).int()
    terminated = ended & ~truncated
    rate = torch.rand(num_rows, num_sessions, generator=generator) * valid
    return {
        "state.user_id": name,
        "state.user_features": torch.zeros(num_rows, num_sessions, 0),
        "state.history_item_id": name[..., None].int(),
        "state.history_feedback": torch.zeros(num_rows, num_sessions, 1, 1, dtype=torch.uint8),
        "state.history_dwell_s": torch.zeros(num_rows, num_sessions, 1),
        "state.history_gap_s": name[..., None] / 4,
        "state.history_mask": torch.ones(num_rows, num_sessions, 1, dtype=torch.bool),
        "state.gap_s": name / 2,
        "state.step": name.int(),
        "pool_item_id": pool,
        "pool_mask": pool % 2 == 0,
        "pool_utility": pool / 16,
        "item_id": (name + 7).int(),
        "utility": name / 8,
        "log_propensity": -name.float(),
        "reward": torch.randn(num_rows, num_sessions, generator=generator) * valid,
        "leave_rate": rate if known else terminated.float(),
        "terminated": terminated,
        "truncated": ended & truncated,
        "valid": valid,
    }


def as_rows(columns, start, stop, follows) -> SessionRows:
    part = {name: value[start:stop] for name, value in columns.items()}
    return SessionRows(
        columns=part, num_tasks=1, runner=0, follows=follows, num_valid=0, returns=[]
    )


def naive(columns, first_kept: int, n_step: int) -> dict[int, tuple[float, float, int]]:
    """Name of a starting state -> (return, discount, name of s')."""
    found = {}
    num_rows, num_sessions = columns["valid"].shape
    for session in range(num_sessions):
        for start in range(first_kept, num_rows - n_step):
            if not columns["valid"][start, session]:
                continue
            total, factor, row = 0.0, 1.0, start
            for _ in range(n_step):
                total += factor * float(columns["reward"][row, session])
                factor *= GAMMA * (1.0 - float(columns["leave_rate"][row, session]))
                over = columns["terminated"][row, session] or columns["truncated"][row, session]
                row += 1
                if over:
                    break
            name = int(columns["state.user_id"][start, session])
            last = int(columns["state.user_id"][row, session])
            found[name] = (total, factor, last)
    return found


@given(
    num_rows=st.integers(3, 30),
    kept=st.integers(7, 12),
    n_step=st.integers(1, 4),
    chunk=st.integers(1, 7),
    seed=st.integers(0, 2**31),
    known=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_slow_loop(num_rows, kept, n_step, chunk, seed, known):
    columns = simulate(num_rows, 3, seed, known=known)
    replay = SessionReplay(num_rows=kept, n_step=n_step, gamma=GAMMA)
    for start in range(0, num_rows, chunk):
        replay.add(as_rows(columns, start, start + chunk, start > 0))
    expected = naive(columns, max(0, num_rows - kept), n_step)
    assert len(replay) == len(expected)
    if not expected:
        return
    got = replay.sample(300, make_generator(seed))
    assert set(got.state.user_id.tolist()) <= expected.keys()
    for i, name in enumerate(got.state.user_id.tolist()):
        total, discount, last = expected[name]
        assert float(got.reward[i]) == pytest.approx(total, abs=1e-5)
        assert float(got.discount[i]) == pytest.approx(discount, abs=1e-6)
        assert int(got.next_state.user_id[i]) == last
        assert (float(got.state.gap_s[i]), float(got.next_state.gap_s[i])) == (name / 2, last / 2)
        assert got.next_state.history_gap_s[i].tolist() == [last / 4]
        assert int(got.item_id[i]) == name + 7
        assert float(got.log_propensity[i]) == -name
        assert got.next_candidates.item_id[i].tolist() == [last * 10 + k for k in range(3)]
        assert got.next_candidates.mask[i].tolist() == [(last * 10 + k) % 2 == 0 for k in range(3)]
        assert got.utility is not None
        assert got.next_utility is not None
        assert float(got.utility[i]) == name / 8
        assert got.next_utility[i].tolist() == [(last * 10 + k) / 16 for k in range(3)]


def filled(num_rows=20, kept=20, n_step=2) -> SessionReplay:
    replay = SessionReplay(num_rows=kept, n_step=n_step, gamma=GAMMA)
    replay.add(as_rows(simulate(num_rows, 3, 1), 0, num_rows, follows=False))
    return replay


def test_every_starting_point_is_drawn_alike():
    replay = filled()
    draws = replay.sample(20_000, make_generator(0)).state.user_id.bincount()
    draws = draws[draws > 0]
    assert len(draws) == len(replay)
    expected = 20_000 / len(replay)
    assert float(((draws - expected) ** 2 / expected).sum()) < len(replay) + 5 * (
        (2 * len(replay)) ** 0.5
    )


def test_no_return_spans_a_gap():
    columns = simulate(20, 3, 1)
    replay = SessionReplay(num_rows=20, n_step=2, gamma=GAMMA)
    replay.add(as_rows(columns, 0, 8, follows=False))
    replay.add(as_rows(columns, 11, 20, follows=False))  # another runner took over
    got = replay.sample(2000, make_generator(0))
    start, last = got.state.user_id // 3, got.next_state.user_id // 3
    assert bool((start < 6).any())
    assert not bool(((start < 8) & (last > 7)).any())


def test_same_generator_same_batch():
    one, two = (filled().sample(16, make_generator(3)) for _ in range(2))
    assert torch.equal(one.state.user_id, two.state.user_id)


def test_goes_on_exactly_after_a_stop():
    columns = simulate(20, 3, 1)
    whole, stopped = (SessionReplay(num_rows=9, n_step=2, gamma=GAMMA) for _ in range(2))
    whole.add(as_rows(columns, 0, 8, follows=False))
    stopped.load_state_dict(whole.state_dict())
    for replay in (whole, stopped):
        replay.add(as_rows(columns, 8, 14, follows=True))
    one, two = (r.sample(64, make_generator(0)) for r in (whole, stopped))
    for name in ("reward", "discount", "item_id"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert torch.equal(one.next_state.user_id, two.next_state.user_id)


def test_refuses_a_state_of_another_length():
    with pytest.raises(ConfigError, match=r"another length.*got: 20.*expected: 9"):
        SessionReplay(num_rows=9, n_step=2, gamma=GAMMA).load_state_dict(filled().state_dict())


def test_refuses_a_state_of_an_earlier_version():
    theirs = {k: v for k, v in filled().state_dict().items() if k != "pool_utility"}
    with pytest.raises(ConfigError, match=r"earlier version.*without pool_utility.*delete"):
        SessionReplay(num_rows=20, n_step=2, gamma=GAMMA).load_state_dict(theirs)


def test_refuses_to_sample_nothing():
    with pytest.raises(ConfigError, match="replay is empty"):
        SessionReplay(num_rows=9, n_step=2, gamma=GAMMA).sample(4, make_generator(0))
    with pytest.raises(ConfigError, match="too short"):
        SessionReplay(num_rows=3, n_step=2, gamma=GAMMA)


def test_takes_equal_parts_of_every_runner():
    empty = SessionReplay(num_rows=9, n_step=2, gamma=GAMMA)
    got = sample_across([filled(), empty, filled()], 7, make_generator(0))
    assert got.reward.shape == (7,)
    assert got.next_candidates.item_id.shape == (7, 3)
    only = sample_across([empty, filled()], 7, make_generator(0))
    assert torch.equal(only.reward, filled().sample(7, make_generator(0)).reward)
