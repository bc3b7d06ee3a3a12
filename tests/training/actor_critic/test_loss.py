"""The loss against its terms written out one event at a time."""

import math
from typing import Any

import pytest
import torch

from recomind.policy import QNetwork
from recomind.streams import make_generator
from recomind.training.actor_critic.acting import log_policy
from recomind.training.actor_critic.config import ActorCriticConfig
from recomind.training.actor_critic.critic import encoded, make_head, scored, values_of
from recomind.training.actor_critic.loss import (
    actor_critic_loss,
    kl_and_entropy,
    surrogate,
    top_k_weight,
)
from recomind.training.actor_critic.rollout import PolicyBatch
from recomind.types import SessionState
from tests.export import tiny as small
from tests.training.trap import NUM_ITEMS, TrapNetwork, TrapWorld

TAU = 0.2


def batch(num: int = 5, advantage: float | None = None) -> PolicyBatch:
    generator = make_generator(4)
    state = TrapWorld().reset(num, generator)
    state.user_features = torch.eye(3)[torch.arange(num) % 3]
    allowed = torch.rand(num, NUM_ITEMS, generator=generator) < 0.7
    allowed[:, 0] = True
    given = torch.randn(num, generator=generator)
    item_id = torch.arange(NUM_ITEMS).expand(num, NUM_ITEMS).contiguous()
    return PolicyBatch(
        state=state,
        item_id=item_id,
        utility=TrapNetwork().q_values(state, item_id)[1],
        allowed=allowed,
        slot=allowed.int().cumsum(1).argmax(1),
        log_propensity=-torch.rand(num, generator=generator) - 0.5,
        advantage=given if advantage is None else torch.full((num,), advantage),
        value_target=torch.randn(num, generator=generator),
    )


def moved() -> TrapNetwork:
    network = TrapNetwork()
    with torch.no_grad():
        network.residual.weight += torch.randn(
            network.residual.weight.shape, generator=make_generator(1)
        )
    return network


def naive(network: TrapNetwork, head: Any, events: PolicyBatch, config: ActorCriticConfig) -> float:
    with torch.no_grad():
        q, utility = network.q_values(events.state, events.item_id)
        values, total = head(network.state_vector(events.state)), 0.0
    for i in range(len(events)):
        slots = [k for k in range(NUM_ITEMS) if events.allowed[i, k]]
        pi, first = (
            {k: math.exp(float(scores[i, k]) / config.temperature) for k in slots}
            for scores in (q, utility)
        )
        pi, first = ({k: v / sum(p.values()) for k, v in p.items()} for p in (pi, first))
        chance = pi[int(events.slot[i])]
        ratio = chance / math.exp(float(events.log_propensity[i]))
        bounded = min(max(ratio, 1 - config.clip_ratio), 1 + config.clip_ratio)
        advantage = float(events.advantage[i])
        weight = config.top_k * (1 - chance) ** (config.top_k - 1)
        gain = weight * min(ratio * advantage, bounded * advantage)
        kl = sum(p * math.log(p / first[k]) for k, p in pi.items())
        error = float(values[i] - events.value_target[i])
        total += config.kl_coefficient * kl - gain + 0.5 * error**2
    return total / len(events)


@pytest.mark.parametrize("top_k", [1, 3])
def test_equals_the_terms_written_out(top_k):
    config = ActorCriticConfig(temperature=TAU, kl_coefficient=0.3, top_k=top_k)
    network, events = moved(), batch()
    head = make_head(network, 8)
    torch.nn.init.ones_(head.out.weight)
    loss, metrics = actor_critic_loss(network, head, events, config)
    assert float(loss.detach()) == pytest.approx(naive(network, head, events, config), rel=1e-4)
    assert float(metrics["policy_loss"] + metrics["value_loss"]) == pytest.approx(
        float(metrics["loss"])
    )


def test_step_0_is_at_the_minimum_of_the_kl():
    """No divergence, and nothing that pulls: with no advantage no weight of the policy moves."""
    network, events = TrapNetwork(), batch(advantage=0.0)
    head = make_head(network, 8)
    loss, metrics = actor_critic_loss(network, head, events, ActorCriticConfig(kl_coefficient=1.0))
    loss.backward()
    assert float(metrics["kl"]) == 0.0
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert float(parameter.grad.abs().max()) == 0.0
    assert float(head.out.bias.grad.abs()) > 0.01  # type: ignore[union-attr]


def test_the_gradient_of_the_kl_is_exact():
    network, events = moved(), batch()
    q, utility = network.q_values(events.state, events.item_id)
    log_pi, log_initial = (log_policy(s, events.allowed, TAU) for s in (q, utility))
    (ours,) = torch.autograd.grad(
        kl_and_entropy(log_pi, log_initial)[0].sum(), q, retain_graph=True
    )
    plain = (log_pi.exp() * (log_pi - log_initial)).sum()
    assert float(plain.detach()) == pytest.approx(
        float(kl_and_entropy(log_pi, log_initial)[0].sum().detach()), rel=1e-5
    )
    assert float(plain.detach()) > 0.1
    assert torch.allclose(ours, torch.autograd.grad(plain, q)[0], atol=1e-5)


def test_the_value_does_not_pull_at_the_policys_encoding():
    network, events = moved(), batch(advantage=0.0)
    head = make_head(network, 8)
    torch.nn.init.ones_(head.out.weight)
    actor_critic_loss(network, head, events, ActorCriticConfig(kl_coefficient=0.0))[0].backward()
    assert float(network.embed.weight.grad.abs().max()) == 0.0  # type: ignore[union-attr]
    assert float(head.hidden.weight.grad.abs().max()) > 0.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain", "learns"),
    [
        (1.0, 2.0, 2.0, True),
        (1.5, 2.0, 2.4, False),
        (0.5, 2.0, 1.0, True),
        (0.5, -2.0, -1.6, False),
        (1.5, -2.0, -3.0, True),
    ],
)
def test_a_probability_moves_so_far_and_no_further(ratio, advantage, gain, learns):
    events = batch(1, advantage)
    log_pi = (events.log_propensity + math.log(ratio)).requires_grad_()
    got, clipped = surrogate(log_pi, events, ActorCriticConfig(clip_ratio=0.2))
    got.sum().backward()
    assert float(got.detach()) == pytest.approx(gain)
    assert bool(log_pi.grad.abs() > 0) is learns  # type: ignore[union-attr]
    assert bool(clipped) is not learns


def test_top_k_weighs_by_the_chance_of_being_left_out():
    pi = torch.tensor([0.0, 0.25, 1.0])
    assert top_k_weight(pi, 1).tolist() == [1.0, 1.0, 1.0]
    assert top_k_weight(pi, 3).tolist() == [3.0, 3 * 0.75**2, 0.0]
    # It is the slope of the chance to be among K draws, 1 - (1 - p)^K (Chen et al., equation 6).
    chance = torch.tensor([0.25], requires_grad=True)
    (1 - (1 - chance) ** 3).sum().backward()
    assert float(chance.grad) == pytest.approx(float(top_k_weight(pi, 3)[1]))  # type: ignore[arg-type]


def states(network: QNetwork, num: int) -> SessionState:
    generator, length = make_generator(7), small.LENGTH
    shape = (num, length)
    return SessionState(
        user_id=torch.arange(num),
        user_features=torch.randn(num, small.NUM_USER, generator=generator),
        history_item_id=torch.randint(small.NUM_ITEMS, shape, generator=generator),
        history_feedback=torch.rand(*shape, len(network.tasks), generator=generator) < 0.5,
        history_dwell_s=torch.rand(shape, generator=generator),
        history_gap_s=torch.rand(shape, generator=generator),
        history_mask=torch.ones(shape, dtype=torch.bool),
        gap_s=torch.rand(num, generator=generator),
        step=torch.full((num,), 2),
        batch_size=[num],
    )


def test_reads_the_networks_own_encoding():
    network = small.network()
    state, items = states(network, 6), torch.arange(8).expand(6, 8).contiguous()
    state_BM, q, utility = scored(network, state, items)
    expected = network.q_values(state, items)
    assert torch.equal(q, expected[0])
    assert torch.equal(utility, expected[1])
    assert torch.equal(state_BM, encoded(network, state))
    head = make_head(network, 4)
    torch.nn.init.ones_(head.out.weight)
    assert torch.allclose(values_of(network, head, state, chunk=4), head(state_BM).detach())
    assert len(values_of(network, head, state).unique()) == 6
