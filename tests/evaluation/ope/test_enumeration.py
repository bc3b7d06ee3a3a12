"""Every estimator against enumeration: logs that hold each session as often as it happens.

Two states, three actions, three steps; what follows, and whether a session ends, is drawn evenly.
The logs have no luck in them, so that an unbiased estimate is the target's value exactly.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from recomind.evaluation.ope import ESTIMATORS, LoggedSessions, Settings, Target, fitted_q
from recomind.evaluation.ope.estimators import Values

LOGGING = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], dtype=torch.float64)  # [state, a]
TARGET = torch.tensor([[0.1, 0.2, 0.7], [0.6, 0.4, 0.0]], dtype=torch.float64)
REWARD = torch.tensor([[1.0, 2.0, 4.0], [0.0, 3.0, 5.0]], dtype=torch.float64)
NEXT = ((0, 1), (1, 0), (1, 1))  # of an action: two equally likely states; state 2 is the end
ENDS = {(0, 2)}  # state, action: the second outcome of NEXT is the end there
STEPS, GAMMA = 3, 0.9


def outcomes(state, action):
    first, second = NEXT[action]
    return first, (2 if (state, action) in ENDS else second)


def q_values():
    """[STEPS, state, action] by backward induction, the definition."""
    q = torch.zeros(STEPS + 1, 3, 3, dtype=torch.float64)
    for step in reversed(range(STEPS)):
        value = (TARGET * q[step + 1, :2]).sum(1).tolist() + [0.0]
        for state, action in itertools.product(range(2), range(3)):
            follows = sum(value[s] for s in outcomes(state, action)) / 2
            q[step, state, action] = REWARD[state, action] + GAMMA * follows
    return q[:STEPS, :2]


Q = q_values()
TRUTH = float((TARGET * Q[0]).sum(1).mean())  # both states begin as often


def sessions(state, done=()):
    """(steps, how often) of each session: steps are (state, action)."""
    if len(done) == STEPS or state == 2:
        yield done, 1.0
        return
    for action in range(3):
        for follows in outcomes(state, action):
            for steps, share in sessions(follows, (*done, (state, action))):
                yield steps, share * float(LOGGING[state, action]) / 2


def exact_logs():
    rows = []
    for start in (0, 1):
        for steps, share in sessions(start):
            rows += [steps] * round(share * 512)
    assert len(rows) == 1024
    shape = (len(rows), STEPS)
    state, slot = torch.zeros(shape).long(), torch.zeros(shape).long()
    mask = torch.zeros(shape).bool()
    for s, steps in enumerate(rows):
        for t, (where, action) in enumerate(steps):
            state[s, t], slot[s, t], mask[s, t] = where, action, True
    logs = LoggedSessions(
        reward=torch.where(mask, REWARD[state, slot], torch.nan),
        pscore=torch.where(mask, LOGGING[state, slot], 0.0),
        slot=slot,
        mask=mask,
        state_id=state,
    )
    return logs, state, Target(prob=TARGET[state])


LOGS, STATES, PLAIN = exact_logs()
SETTINGS = Settings(gamma=GAMMA, clip=math.inf, switch=math.inf)


def model_of(kind):
    exact = torch.stack([Q[t][STATES[:, t]] for t in range(STEPS)], 1)
    noise = torch.rand(exact.shape, generator=torch.Generator().manual_seed(1)).double()
    wrong = torch.stack([noise[0, t, :][None] + STATES[:, t, None] for t in range(STEPS)], 1)
    return {"exact": exact, "wrong": wrong, "none": torch.zeros_like(exact)}[kind]


def estimate(name, kind="exact", settings=SETTINGS) -> Values:
    return ESTIMATORS[name].estimate(LOGS, Target(prob=PLAIN.prob, q=model_of(kind)), settings)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_each_estimator_is_the_value_of_the_target_policy(name):
    assert estimate(name).value == pytest.approx(TRUTH, abs=1e-6)


@pytest.mark.parametrize("kind", ["wrong", "none"])
@pytest.mark.parametrize("name", ["dr", "per_decision_dr", "switch_dr"])
def test_doubly_robust_forms_do_not_need_a_right_model(name, kind):
    assert estimate(name, kind).value == pytest.approx(TRUTH, abs=1e-6)
    assert estimate("dm", kind).value != pytest.approx(TRUTH, abs=0.1)


def test_fitted_q_finds_the_value_from_the_logs_alone():
    def one_hot(step):
        cell = STATES[:, step, None] * 3 + torch.arange(3)
        return torch.nn.functional.one_hot(cell, 6)

    q = fitted_q(LOGS, PLAIN, one_hot, gamma=GAMMA)
    found = ESTIMATORS["fqe"].estimate(LOGS, Target(prob=PLAIN.prob, q=q), SETTINGS)
    assert found.value == pytest.approx(TRUTH, abs=1e-6)
    mask = LOGS.mask[:, 1]
    assert q[mask, 1] == pytest.approx(model_of("exact")[mask, 1], abs=1e-6)


def naive(name, settings):
    """By the definition, a session at a time."""
    total, q = [], model_of("wrong")
    for s in range(len(LOGS.reward)):
        weight, robust, gain = 1.0, 0.0, 0.0
        v = (PLAIN.prob[s] * q[s]).sum(1)
        within = True
        for t in range(int(LOGS.mask[s].sum())):
            a = int(LOGS.slot[s, t])
            before, weight = weight, weight * float(PLAIN.prob[s, t, a] / LOGS.pscore[s, t])
            gain += settings.gamma**t * float(LOGS.reward[s, t])
            # Jiang and Li, equation 10, gathered by step: the model's part is w_{t-1} v(s_t).
            if within:
                robust += settings.gamma**t * before * float(v[t])
            within = within and weight <= settings.switch
            if within:
                robust += settings.gamma**t * weight * float(LOGS.reward[s, t] - q[s, t, a])
        total.append(min(weight, settings.clip) * gain if name == "ips" else robust)
    return sum(total) / len(total)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ips", Settings(gamma=GAMMA, clip=2.0)),
        ("switch_dr", Settings(gamma=GAMMA, switch=2.0)),
        ("switch_dr", Settings(gamma=GAMMA, switch=1e-9)),
        ("per_decision_dr", Settings(gamma=GAMMA, switch=math.inf)),
    ],
)
def test_clipping_and_switching_against_a_loop(name, settings):
    found = estimate(name, "wrong", settings).value
    assert found == pytest.approx(naive(name, settings), abs=1e-6)


def test_switching_at_once_is_the_model_alone():
    found = estimate("switch_dr", "wrong", Settings(gamma=GAMMA, switch=1e-9))
    assert found.value == pytest.approx(estimate("dm", "wrong").value, abs=1e-6)


def test_the_logging_policy_is_its_own_mean_under_every_estimator():
    logs = LOGS
    own = Target(prob=LOGGING[STATES], q=torch.zeros_like(PLAIN.prob))
    mean = float(
        (torch.where(logs.mask, logs.reward, 0.0) * GAMMA ** torch.arange(3)).sum(1).mean()
    )
    for name, estimator in ESTIMATORS.items():
        if name not in ("dm", "fqe"):
            found = estimator.estimate(logs, own, SETTINGS).value
            assert found == pytest.approx(mean, abs=1e-6), name


def test_marginalised_weights_are_the_ratio_of_state_shares():
    from recomind.evaluation.ope.weights import log_ratio, marginal_weights

    weights = marginal_weights(LOGS, log_ratio(LOGS, PLAIN))

    # Share of state 1 at the second step, by hand for both policies.
    def share(policy):
        arrives = 0.0
        for state, action in itertools.product(range(2), range(3)):
            follows = outcomes(state, action)
            arrives += 0.5 * float(policy[state, action]) * follows.count(1) / 2
        return arrives

    rows = (LOGS.mask[:, 1] & (STATES[:, 1] == 1) & (LOGS.slot[:, 1] == 0)).nonzero()[:, 0]
    expected = share(TARGET) / share(LOGGING) * float(TARGET[1, 0] / LOGGING[1, 0])
    assert weights[rows, 1].tolist() == pytest.approx([expected] * len(rows), abs=1e-6)
