import pytest
import torch

from recomind.streams import make_generator
from recomind.training.dqn.loss import td_loss, td_target
from recomind.types import Transition
from tests.training.tiny import TinyPool, TinyWorld


class Table(torch.nn.Module):
    """Q and utility of an item whatever the state."""

    def __init__(self, q, utility):
        super().__init__()
        self.q = torch.nn.Parameter(torch.tensor(q))
        self.utility = torch.tensor(utility)

    def q_values(self, state, item_id):
        del state
        return self.q[item_id], self.utility[item_id]


def transition(items, mask=None, discount=0.5, reward=1.0):
    world = TinyWorld()
    state = world.reset(1, make_generator(0))
    pool = TinyPool().candidates(state, world.streams)
    pool.item_id, pool.log_propensity = torch.tensor([items]), torch.zeros(1, len(items))
    pool.mask = torch.ones(1, len(items), dtype=torch.bool) if mask is None else torch.tensor(mask)
    return Transition(
        state=state,
        item_id=torch.tensor([2]),
        log_propensity=torch.zeros(1),
        reward=torch.tensor([reward]),
        discount=torch.tensor([discount]),
        next_state=state,
        next_candidates=pool,
        batch_size=[1],
    )


ONLINE = Table([1.0, 3.0, 2.0, 9.0], [0.8, 0.9, 1.0, 0.1])
TARGET = Table([10.0, 20.0, 30.0, 40.0], [0.8, 0.9, 1.0, 0.1])


def target(batch, rho=0.5):
    return float(td_target(ONLINE, TARGET, batch, support_ratio=rho))


def test_online_network_picks_and_target_values():
    assert target(transition([0, 1, 2])) == 1.0 + 0.5 * 20.0  # not 30, the target's own best


def test_unsupported_candidates_are_never_picked():
    assert target(transition([0, 1, 2, 3])) == 11.0
    assert target(transition([0, 1, 2, 3]), rho=0.0) == 1.0 + 0.5 * 40.0


def test_padding_is_never_picked():
    assert target(transition([0, 1, 2], [[True, False, True]])) == 1.0 + 0.5 * 30.0


def test_an_ended_session_and_an_empty_pool_are_worth_their_reward():
    assert target(transition([0, 1], discount=0.0)) == 1.0
    assert target(transition([0, 1], [[False, False]])) == 1.0


@pytest.mark.parametrize(("q", "loss"), [(11.0, 0.0), (10.5, 0.125), (2.0, 8.5)])
def test_huber(q, loss):
    network = Table([1.0, 3.0, q, 0.0], [0.8, 0.9, 1.0, 0.1])
    batch = transition([0, 1])
    got, metrics = td_loss(network, TARGET, batch, support_ratio=0.5)
    assert float(got.detach()) == pytest.approx(loss)
    assert float(metrics["q_mean"]) == pytest.approx(q)
    assert float(metrics["target_mean"]) == pytest.approx(11.0)
    assert float(metrics["td_error_abs"]) == pytest.approx(abs(q - 11.0))
    assert not metrics["loss"].requires_grad


def test_only_the_shown_item_of_the_network_learns():
    network, target_network = Table([0.0] * 4, [1.0] * 4), Table([5.0] * 4, [1.0] * 4)
    td_loss(network, target_network, transition([0, 1]), support_ratio=0.5)[0].backward()
    assert network.q.grad is not None
    assert network.q.grad.tolist() == [0.0, 0.0, -1.0, 0.0]
    assert target_network.q.grad is None
