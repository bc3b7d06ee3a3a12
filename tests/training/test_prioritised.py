"""Prioritised replay against its definition, written out one transition at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recomind.errors import ConfigError
from recomind.streams import make_generator
from recomind.training.dqn.loss import td_loss
from recomind.training.dqn.prioritised import PrioritisedReplay, draw_across, note_errors
from tests.training.test_loss import TARGET, Table, transition
from tests.training.test_replay import GAMMA, as_rows, naive, simulate


def filled(alpha=0.7, num_rows=20, kept=20, seed=1) -> PrioritisedReplay:
    replay = PrioritisedReplay(num_rows=kept, n_step=2, gamma=GAMMA, alpha=alpha)
    replay.add(as_rows(simulate(num_rows, 3, seed), 0, num_rows, follows=False))
    return replay


def with_errors(replay: PrioritisedReplay, seed: int) -> dict[int, float]:
    """Give some transitions an error; name of a state -> its priority."""
    names = sorted(naive(simulate(20, 3, 1), 0, 2))
    priorities = dict.fromkeys(names, 1.0)
    drawn = replay.draw(8, make_generator(seed), 0.4)
    errors = 3 * torch.randn(8, generator=make_generator(seed + 1))
    replay.update(drawn.index, errors)
    for name, error in zip(drawn.transition.state.user_id.tolist(), errors.tolist(), strict=True):
        priorities[name] = abs(error) + 1e-3  # of those drawn twice the last
    return priorities


@given(seed=st.integers(0, 2**31), alpha=st.floats(0.1, 1.0), beta=st.floats(0.0, 1.0))
@settings(max_examples=15, deadline=None)
def test_chances_and_weights_equal_their_definition(seed, alpha, beta):
    replay = filled(alpha)
    priorities = with_errors(replay, seed)
    total = sum(p**alpha for p in priorities.values())
    num = 20_000
    drawn = replay.draw(num, make_generator(seed), beta)
    names = drawn.transition.state.user_id
    for name, priority in priorities.items():
        chance = priority**alpha / total
        share = float((names == name).float().mean())
        assert share == pytest.approx(chance, abs=5 * (chance / num) ** 0.5 + 1e-4)
        weights = drawn.weight[names == name]
        if len(weights):
            expected = (len(priorities) * chance) ** -beta
            assert weights.tolist() == pytest.approx([expected] * len(weights), rel=1e-4)


def test_without_an_exponent_every_transition_is_alike():
    replay = filled(alpha=0.0)
    with_errors(replay, 3)
    drawn = replay.draw(5000, make_generator(0), 1.0)
    assert drawn.weight.unique().tolist() == pytest.approx([1.0])
    counts = drawn.transition.state.user_id.bincount()
    assert int(counts[counts > 0].min()) > 0.6 * 5000 / len(replay)


def test_what_is_new_is_as_urgent_as_the_most_urgent():
    columns = simulate(14, 3, 1)
    replay = PrioritisedReplay(num_rows=8, n_step=2, gamma=GAMMA, alpha=1.0)
    replay.add(as_rows(columns, 0, 6, follows=False))
    drawn = replay.draw(4, make_generator(0), 0.4)
    replay.update(drawn.index, torch.full((4,), 9.0))
    replay.add(as_rows(columns, 6, 14, follows=True))  # the whole ring is written over
    assert replay._columns["priority"].unique().tolist() == pytest.approx([9.001])


def test_goes_on_exactly_after_a_stop():
    one, two = filled(), PrioritisedReplay(num_rows=20, n_step=2, gamma=GAMMA, alpha=0.7)
    with_errors(one, 5)
    two.load_state_dict(one.state_dict())
    drawn = [replay.draw(64, make_generator(0), 0.4) for replay in (one, two)]
    assert torch.equal(drawn[0].index, drawn[1].index)
    assert torch.equal(drawn[0].weight, drawn[1].weight)


def test_errors_go_back_to_the_runner_that_they_came_from():
    replays = [
        filled(seed=1),
        PrioritisedReplay(num_rows=9, n_step=2, gamma=GAMMA, alpha=0.7),
        filled(seed=2),
    ]
    batch, weight, drawn = draw_across(replays, 7, make_generator(0), 0.4)
    assert batch.reward.shape == weight.shape == (7,)
    assert float(weight.max()) == 1.0
    note_errors(drawn, torch.arange(1.0, 8.0))
    first, last = replays[0]._columns["priority"], replays[2]._columns["priority"]
    assert {round(v) for v in first.unique().tolist()} <= {1, 2, 3, 4}
    assert {round(v) for v in last.unique().tolist()} <= {1, 5, 6, 7}
    assert round(float(last.max())) == 7


def test_refuses_to_draw_nothing():
    with pytest.raises(ConfigError, match="replay is empty"):
        PrioritisedReplay(num_rows=9, n_step=2, gamma=GAMMA, alpha=1.0).draw(
            4, make_generator(0), 0.4
        )


def test_weights_scale_what_a_transition_teaches():
    slopes = []
    for weight in (None, torch.tensor([1.0]), torch.tensor([0.25])):
        network = Table([0.0] * 4, [1.0] * 4)
        loss, metrics = td_loss(
            network, TARGET, transition([0, 1]), support_ratio=0.5, weight_B=weight
        )
        loss.backward()
        assert network.q.grad is not None
        slopes.append(float(network.q.grad[2]))
        assert metrics["td_error"].shape == (1,)
    assert slopes[0] == slopes[1] == 4 * slopes[2] != 0.0
