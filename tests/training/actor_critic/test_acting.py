import pytest
import torch

from recomind.candidates import SoftmaxExploration
from recomind.streams import SessionStreams, draw_seeds, make_generator
from recomind.training.actor_critic.acting import log_policy

SCORES = torch.tensor([[0.5, 0.4, 9.0, 0.1]])
ALLOWED = torch.tensor([[True, True, False, True]])


def test_log_policy_is_the_softmax_over_what_is_allowed():
    log_pi = log_policy(SCORES, ALLOWED, 0.1)
    weights = torch.tensor([5.0, 4.0, 1.0]).exp()
    expected = (weights / weights.sum()).tolist()
    assert log_pi[0, [0, 1, 3]].exp().tolist() == pytest.approx(expected)
    assert float(log_pi[0, 2].exp()) == 0.0
    assert bool(log_pi.isfinite().all())


def test_draws_follow_the_softmax_and_say_how_likely_they_were():
    num = 40_000
    uniforms = SessionStreams(draw_seeds(num, make_generator(0))).uniform(
        torch.zeros(num).long(), 4
    )
    slot, log_propensity = SoftmaxExploration(0.2).choose(
        SCORES.expand(num, 4), ALLOWED.expand(num, 4), uniforms
    )
    log_pi = log_policy(SCORES, ALLOWED, 0.2)[0]
    torch.testing.assert_close(log_propensity, log_pi[slot])
    counts = slot.bincount(minlength=4)
    assert counts[2] == 0
    expected = num * log_pi.exp()[[0, 1, 3]]
    assert float(((counts[[0, 1, 3]] - expected) ** 2 / expected).sum()) < 14  # 0.1 % of 2 degrees


def test_a_low_temperature_is_greedy():
    slot, log_propensity = SoftmaxExploration(1e-3).choose(
        SCORES, ALLOWED, torch.full((1, 4), 0.99)
    )
    assert (int(slot), float(log_propensity)) == (0, 0.0)
