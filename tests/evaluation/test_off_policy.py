"""Off-policy estimates on a bandit and on sessions whose truth is known."""

from __future__ import annotations

import itertools

import pytest
import torch

from recomind.errors import SchemaError
from recomind.evaluation.off_policy import (
    LoggedBandit,
    effective_sample_size,
    inverse_propensity,
    per_decision,
    self_normalised,
)
from recomind.streams import make_generator

LOGGING = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])  # [context, action]
TARGET = torch.tensor([[0.1, 0.1, 0.8], [0.6, 0.2, 0.2]])
REWARD = torch.tensor([[1.0, 2.0, 4.0], [0.0, 3.0, 5.0]])
TRUTH = float((TARGET * REWARD).sum(1).mean())


def exact_logs():
    """Each (context, action) as often as the logging policy chooses it: no luck is left."""
    pairs = [
        (c, a) for c in range(2) for a in range(3) for _ in range(int(4 * LOGGING[c, a].item()))
    ]
    context, action = (torch.tensor(column) for column in zip(*pairs, strict=True))
    logs = LoggedBandit(
        context=context,
        action=action,
        reward=REWARD[context, action],
        pscore=LOGGING[context, action],
    )
    return logs, TARGET[context, action]


def test_both_estimators_are_exact_where_the_logs_hold_no_luck():
    logs, target = exact_logs()
    assert inverse_propensity(logs, target).value == pytest.approx(TRUTH)
    assert self_normalised(logs, target).value == pytest.approx(TRUTH)
    assert inverse_propensity(logs, target).n == 8


def test_estimates_from_drawn_logs_are_within_their_errors():
    generator = make_generator(3)
    context = torch.randint(2, (4000,), generator=generator)
    action = torch.multinomial(LOGGING[context], 1, generator=generator)[:, 0]
    logs = LoggedBandit(
        context=context,
        action=action,
        reward=REWARD[context, action],
        pscore=LOGGING[context, action],
    )
    target = TARGET[context, action]
    for estimate in (inverse_propensity(logs, target), self_normalised(logs, target)):
        assert abs(estimate.value - TRUTH) < 3 * estimate.standard_error
        assert 0.02 < estimate.standard_error < 0.2
        assert 1000 < estimate.effective_sample_size < 4000


def test_the_same_policy_is_its_own_mean():
    logs, _ = exact_logs()
    estimate = inverse_propensity(logs, logs.pscore)
    assert estimate.value == pytest.approx(float(logs.reward.mean()))
    assert estimate.effective_sample_size == pytest.approx(8)


def test_self_normalising_does_not_depend_on_the_scale_of_the_weights():
    logs, target = exact_logs()
    logs.reward = torch.ones(8)
    logs.pscore = logs.pscore * 0.5
    assert self_normalised(logs, target).value == pytest.approx(1.0)
    assert self_normalised(logs, target).standard_error == pytest.approx(0.0)
    assert inverse_propensity(logs, target).value == pytest.approx(2.0)


def all_two_step_sessions():
    """Logging chooses two actions evenly, twice; every session of two steps appears once."""
    action = torch.tensor(list(itertools.product((0, 1), repeat=2)))
    target = torch.tensor([0.8, 0.2])[action]
    reward = torch.stack([action[:, 0] + 1.0, 10.0 * action[:, 0] + action[:, 1]], dim=1)
    return reward, torch.full((4, 2), 0.5), target, torch.ones(4, 2, dtype=torch.bool)


@pytest.mark.parametrize("normalise", [False, True])
def test_sessions_are_exact_where_the_logs_hold_no_luck(normalise):
    estimate = per_decision(*all_two_step_sessions(), gamma=0.5, normalise=normalise)
    assert estimate.value == pytest.approx((0.8 * 1 + 0.2 * 2) + 0.5 * (10 * 0.2 + 0.2))


@pytest.mark.parametrize("normalise", [False, True])
def test_sessions_of_different_lengths_against_a_loop(normalise):
    generator = make_generator(8)
    shape = (9, 5)
    reward = torch.rand(shape, generator=generator)
    pscore = 0.2 + 0.8 * torch.rand(shape, generator=generator)
    target = torch.rand(shape, generator=generator)
    length = torch.randint(1, 6, (9,), generator=generator)
    mask = torch.arange(5) < length[:, None]
    reward[~mask], pscore[~mask] = torch.nan, 0.0
    value = 0.0
    for t in range(5):
        weights, gains = [], []
        for s in range(9):
            weight = 1.0
            for u in range(min(t + 1, int(length[s]))):
                weight *= float(target[s, u]) / float(pscore[s, u])
            weights.append(weight)
            gains.append(weight * float(reward[s, t]) if t < length[s] else 0.0)
        value += 0.9**t * sum(gains) / (sum(weights) if normalise else 9)
    estimate = per_decision(reward, pscore, target, mask, gamma=0.9, normalise=normalise)
    assert estimate.value == pytest.approx(value, rel=1e-5)


def test_effective_sample_size_of_known_weights():
    assert effective_sample_size(torch.tensor([1.0, 1.0, 0.0, 0.0])) == 2.0
    assert effective_sample_size(torch.zeros(3)) == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pscore": torch.zeros(4, 2)}, "logged propensities"),
        ({"target_pscore": torch.full((4, 2), 1.5)}, "target policy; expected"),
        ({"reward": torch.full((4, 2), torch.nan)}, "reward is not a finite number"),
        ({"reward": torch.zeros(3, 2)}, "arrays of logged sessions"),
    ],
)
def test_bad_logs(change, message):
    names = ("reward", "pscore", "target_pscore", "mask")
    with pytest.raises(SchemaError, match=message):
        per_decision(**(dict(zip(names, all_two_step_sessions(), strict=True)) | change))


def test_a_target_that_never_does_what_was_logged():
    reward, pscore, target, mask = all_two_step_sessions()
    with pytest.raises(SchemaError, match="never does what was logged"):
        per_decision(reward, pscore, torch.zeros_like(target), mask, normalise=True)


def test_logged_arrays_of_different_lengths():
    logs, target = exact_logs()
    with pytest.raises(SchemaError, match="differ in length"):
        inverse_propensity(logs, target[:3])
