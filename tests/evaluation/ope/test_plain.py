"""The plain weighted estimators: a bandit, and sessions of different lengths against a loop."""

from __future__ import annotations

import pytest
import torch

from recomind.evaluation.ope import LoggedSessions, Settings, Target, bandit_sessions, estimate_all
from recomind.evaluation.ope.weights import effective_size
from recomind.streams import make_generator

LOGGING = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])  # [context, action]
TARGET = torch.tensor([[0.1, 0.1, 0.8], [0.6, 0.2, 0.2]])
REWARD = torch.tensor([[1.0, 2.0, 4.0], [0.0, 3.0, 5.0]])
TRUTH = float((TARGET * REWARD).sum(1).mean())
PLAIN = ("ips", "snips")
LOOSE = Settings(clip=1e9, min_effective=1e-9, min_support=0.0)


def feedback(context, action):
    return {
        "action": action,
        "reward": REWARD[context, action],
        "pscore": LOGGING[context, action],
    }


def estimates(logged, prob):
    return estimate_all(*bandit_sessions(logged, prob), LOOSE, PLAIN)


def exact_logs():
    """Each (context, action) as often as the logging policy chooses it: no luck is left."""
    pairs = [
        (c, a) for c in range(2) for a in range(3) for _ in range(int(4 * LOGGING[c, a].item()))
    ]
    return tuple(torch.tensor(column) for column in zip(*pairs, strict=True))


def test_both_are_exact_where_the_logs_hold_no_luck():
    context, action = exact_logs()
    found = estimates(feedback(context, action), TARGET[context])["estimates"]
    for name in PLAIN:
        assert found[name]["value"] == pytest.approx(TRUTH)
        assert found[name]["n"] == 8


def test_drawn_logs_give_the_truth_within_the_errors():
    generator = make_generator(3)
    context = torch.randint(2, (4000,), generator=generator)
    action = torch.multinomial(LOGGING[context], 1, generator=generator)[:, 0]
    found = estimates(feedback(context, action), TARGET[context])
    assert 1000 < found["overlap"]["effective_sessions"] < 4000
    for name in PLAIN:
        estimate = found["estimates"][name]
        assert abs(estimate["value"] - TRUTH) < 3 * estimate["standard_error"]
        assert 0.02 < estimate["standard_error"] < 0.2


def test_self_normalising_does_not_depend_on_the_scale_of_the_weights():
    context, action = exact_logs()
    logged = feedback(context, action)
    logged |= {"reward": torch.ones(8), "pscore": 0.5 * logged["pscore"]}
    found = estimates(logged, TARGET[context])["estimates"]
    assert found["snips"]["value"] == pytest.approx(1.0)
    assert found["snips"]["standard_error"] == pytest.approx(0.0)
    assert found["ips"]["value"] == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["per_decision", "per_decision_snips"])
def test_sessions_of_different_lengths_against_a_loop(name):
    generator = make_generator(8)
    shape = (9, 5)
    reward = torch.rand(shape, generator=generator)
    pscore = 0.2 + 0.8 * torch.rand(shape, generator=generator)
    chosen = torch.rand(shape, generator=generator)
    length = torch.randint(1, 6, (9,), generator=generator)
    mask = torch.arange(5) < length[:, None]
    reward[~mask], pscore[~mask] = torch.nan, 0.0
    value = 0.0
    for t in range(5):
        weights, gains = [], []
        for s in range(9):
            weight = 1.0
            for u in range(min(t + 1, int(length[s]))):
                weight *= float(chosen[s, u]) / float(pscore[s, u])
            weights.append(weight)
            gains.append(weight * float(reward[s, t]) if t < length[s] else 0.0)
        value += 0.9**t * sum(gains) / (sum(weights) if name == "per_decision_snips" else 9)
    logs = LoggedSessions(
        reward=reward, pscore=pscore, slot=torch.zeros(shape, dtype=torch.int64), mask=mask
    )
    target = Target(prob=torch.stack([chosen, 1 - chosen], 2))
    settings = Settings(gamma=0.9, min_effective=1e-9, min_support=0.0)
    found = estimate_all(logs, target, settings, [name])["estimates"][name]
    assert found["value"] == pytest.approx(value, rel=1e-5)


def test_effective_size_of_known_weights():
    assert effective_size(torch.tensor([1.0, 1.0, 0.0, 0.0]).log()) == pytest.approx(2.0)
    assert effective_size(torch.zeros(3).log()) == 0.0
