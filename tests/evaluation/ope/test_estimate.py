"""Intervals, refusals and bad input of off-policy estimates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from recomind.errors import ArtifactError, ConfigError, SchemaError
from recomind.evaluation.clusters import clustered_error
from recomind.evaluation.ope import (
    ESTIMATORS,
    LoggedSessions,
    Settings,
    Target,
    bandit_sessions,
    estimate_all,
    overlap_of,
    read_feedback,
    write_feedback,
)
from recomind.evaluation.ope.weights import effective_size, normalised

LOOSE = Settings(min_effective=1.0, min_support=0.0)


def drawn(num=400, steps=3, seed=0, likes=0.5):
    """Two candidates, logged evenly; the second is worth one more."""
    generator = torch.Generator().manual_seed(seed)
    slot = torch.randint(2, (num, steps), generator=generator)
    logs = LoggedSessions(
        reward=slot.double() + torch.rand(num, steps, generator=generator),
        pscore=torch.full((num, steps), 0.5),
        slot=slot,
        mask=torch.ones(num, steps, dtype=torch.bool),
        state_id=torch.zeros(num, steps, dtype=torch.int64),
    )
    prob = torch.tensor([1 - likes, likes]).expand(num, steps, 2)
    left = torch.arange(steps, 0, -1, dtype=torch.float64)[:, None] - 1.0  # steps that follow
    q = torch.tensor([0.5, 1.5]) + left * (0.5 + likes)
    return logs, Target(prob=prob, q=q.expand(num, steps, 2))


def test_every_estimate_is_within_its_interval_of_the_truth():
    logs, target = drawn(num=2000, likes=0.7)
    found = estimate_all(logs, target)
    truth = 3 * (0.5 + 0.7)
    for name, estimate in found["estimates"].items():
        error = max(estimate["standard_error"], 1e-9)
        assert abs(estimate["value"] - truth) < 4 * error + 1e-6, name
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
    assert found["propensities"] == "logged"
    assert found["overlap"]["support"] == pytest.approx(1.0, abs=0.05)


def test_a_model_takes_variance_out():
    logs, target = drawn(num=500, likes=0.9)
    estimates = estimate_all(logs, target, LOOSE)["estimates"]
    assert estimates["per_decision_dr"]["standard_error"] < estimates["ips"]["standard_error"] / 2


def test_intervals_widen_where_sessions_are_of_few_users():
    logs, target = drawn(num=400, likes=0.6)
    logs.reward += torch.arange(400)[:, None] % 20 * 0.2  # a user's sessions are alike
    alone = estimate_all(logs, target, LOOSE, ["snips"])["estimates"]["snips"]
    logs.user_id = torch.arange(400) % 20
    clustered = estimate_all(logs, target, LOOSE, ["snips"])["estimates"]["snips"]
    assert clustered["value"] == alone["value"]
    assert clustered["num_users"] == 20
    assert clustered["high"] - clustered["low"] > 1.5 * (alone["high"] - alone["low"])


def test_one_user_has_no_interval():
    logs, target = drawn()
    logs.user_id = torch.zeros(400, dtype=torch.int64)
    estimate = estimate_all(logs, target, LOOSE, ["ips"])["estimates"]["ips"]
    assert (estimate["low"], estimate["reason"]) == (None, "one user has no spread")


def test_clusters_against_the_definition():
    effect = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    textbook = float(effect.std()) / 2
    assert clustered_error(effect) == pytest.approx(textbook)
    assert clustered_error(effect, torch.tensor([7, 3, 9, 1])) == pytest.approx(textbook)
    sums = [(1 - 4) + (2 - 4), (4 - 4) + (9 - 4)]
    expected = (2 / 1 * sum(s * s for s in sums)) ** 0.5 / 4
    assert clustered_error(effect, torch.tensor([0, 0, 1, 1])) == pytest.approx(expected)


def test_a_policy_without_support_is_refused_with_its_figure():
    logs, target = drawn(num=2000)
    prob = torch.zeros(2000, 3, 3)
    prob[..., 2], prob[..., 1] = 0.9, 0.1  # mostly what no log shows
    target = Target(prob=prob, q=torch.zeros(2000, 3, 3))
    found = estimate_all(logs, target)
    assert found["overlap"]["support"] == pytest.approx(0.1, abs=0.02)
    for estimate in found["estimates"].values():
        assert estimate["value"] is None
        assert "of what the policy would do, at least 80.0% is asked for" in estimate["reason"]


def test_sessions_that_hardly_count_are_refused_and_decisions_are_not():
    logs, target = drawn(num=300, steps=12, likes=0.95)
    found = estimate_all(logs, target)
    assert found["overlap"]["effective_sessions"] < 30
    assert "300 sessions count for" in found["estimates"]["ips"]["reason"]
    assert found["estimates"]["dm"]["value"] is not None
    assert found["estimates"]["marginalised"]["value"] is not None


def test_what_an_estimator_lacks_is_its_reason():
    logs, target = drawn()
    logs.state_id, target.q = None, None
    estimates = estimate_all(logs, target)["estimates"]
    assert "no Q values" in estimates["dr"]["reason"]
    assert "states that sessions meet in" in estimates["marginalised"]["reason"]
    assert estimates["snips"]["value"] is not None


def test_long_products_stay_in_range():
    num, steps = 50, 100
    reward = torch.rand(num, steps, generator=torch.Generator().manual_seed(0))
    logs = LoggedSessions(
        reward=reward,
        pscore=torch.full((num, steps), 1e-4),
        slot=torch.zeros(num, steps, dtype=torch.int64),
        mask=torch.ones(num, steps, dtype=torch.bool),
    )
    estimates = estimate_all(logs, Target(prob=torch.ones(num, steps, 1)), LOOSE)["estimates"]
    mean = float(reward.double().sum(1).mean())
    for name in ("snips", "per_decision_snips"):
        assert estimates[name]["value"] == pytest.approx(mean)
    assert effective_size(torch.tensor([9000.0, 9000.0])) == pytest.approx(2.0)
    assert normalised(torch.full((3,), -torch.inf)).tolist() == [0.0, 0.0, 0.0]


def test_a_horizon_of_one_is_a_bandit():
    logs, target = drawn(steps=1, likes=0.8)
    estimates = estimate_all(logs, target, LOOSE)["estimates"]
    assert estimates["dr"]["value"] == pytest.approx(estimates["per_decision_dr"]["value"])
    assert estimates["snips"]["value"] == pytest.approx(estimates["per_decision_snips"]["value"])


def change(**fields):
    return lambda logs, target: (
        dataclasses.replace(logs, **{k: v(logs) for k, v in fields.items()}),
        target,
    )


def with_value(name, value):
    def put(logs):
        changed = getattr(logs, name).clone()
        changed[3, 1] = value
        return changed

    return change(**{name: put})


def halved(logs, target):
    return logs, Target(prob=target.prob * 0.5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (with_value("pscore", 0.0), r"propensities; got: 1 outside.*such as 0; expected: each in"),
        (with_value("pscore", 1.5), "such as 1.5"),
        (with_value("pscore", float("nan")), "propensities are missing; got: 1 of 1,200"),
        (with_value("reward", float("nan")), "reward is not a finite number"),
        (with_value("slot", 2), "not among its candidates; got: slots 0 to 2"),
        (with_value("mask", False), "goes on after its end"),
        (change(mask=lambda logs: torch.zeros_like(logs.mask)), "has no step"),
        (change(reward=lambda logs: logs.reward[:, :2]), "arrays of logged sessions"),
        (change(user_id=lambda logs: torch.zeros(3)), "user_id of logged sessions"),
        (halved, "sums that miss 1 by up to 0.5"),
        (lambda logs, target: (logs, Target(prob=target.prob[0])), "expected: .400, 3, K."),
        (
            lambda logs, target: (logs, Target(prob=target.prob, q=target.q * torch.nan)),
            "Q value of a candidate is not a finite number",
        ),
    ],
)
def test_bad_input(spoil, message):
    with pytest.raises(SchemaError, match=message):
        estimate_all(*spoil(*drawn()))


def test_one_session_and_an_unknown_estimator():
    logs, target = drawn(num=1)
    with pytest.raises(SchemaError, match="at least two logged sessions"):
        estimate_all(logs, target)
    with pytest.raises(ConfigError, match="did you mean 'snips'"):
        estimate_all(*drawn(), names=["snip"])
    with pytest.raises(ConfigError, match="min_support"):
        Settings(min_support=2.0)


def feedback():
    generator = torch.Generator().manual_seed(2)
    action = torch.randint(3, (500,), generator=generator)
    return {
        "context": torch.rand(500, 4, generator=generator),
        "action": action,
        "reward": (action == 2).double(),
        "pscore": torch.full((500,), 1 / 3, dtype=torch.float64),
        "position": torch.zeros(500, dtype=torch.int64),
        "action_context": torch.eye(3),
    }


def test_open_bandit_fields_are_read_and_written(tmp_path):
    write_feedback(tmp_path / "logs.npz", feedback())
    again = read_feedback(tmp_path / "logs.npz")
    assert all(torch.equal(again[name], value) for name, value in feedback().items())
    as_obp = {name: value.numpy() for name, value in feedback().items()} | {
        "n_rounds": 500,
        "n_actions": 3,
        "position": None,
    }
    assert set(read_feedback(as_obp)) == set(feedback()) - {"position"}
    target = torch.tensor([0.1, 0.1, 0.8]).expand(500, 3)
    logs, policy = bandit_sessions(again, target[..., None])
    found = estimate_all(logs, policy, names=["ips", "snips"])["estimates"]
    for estimate in found.values():
        assert abs(estimate["value"] - 0.8) < 4 * estimate["standard_error"]
    assert overlap_of(logs, policy).num_decisions == 500


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"pscore": None}, "lacks fields.*expected: .'pscore'."),
        ({"reward": torch.ones(3)}, "differ in length"),
        ({"position": torch.ones(500)}, "slates of several positions"),
        ({"action": "abc"}, "field action of logged feedback"),
    ],
)
def test_bad_feedback(spoil, message):
    with pytest.raises(SchemaError, match=message):
        read_feedback({**feedback(), **spoil})


def test_an_unreadable_file_and_a_pickle_in_it(tmp_path):
    with pytest.raises(ArtifactError, match="unreadable feedback"):
        read_feedback(tmp_path / "absent.npz")
    np.savez(tmp_path / "pickled.npz", action=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ArtifactError, match="unreadable feedback"):
        read_feedback(tmp_path / "pickled.npz")


def test_the_registry_is_the_one_place():
    logs, target = drawn()
    assert list(estimate_all(logs, target)["estimates"]) == list(ESTIMATORS)


def test_a_session_s_effect_on_marginalised_weights_is_what_leaving_it_out_does():
    """Its own term alone would leave out what it does to the shares of states."""
    logs, target = drawn(num=300, likes=0.7)
    logs = dataclasses.replace(logs, state_id=logs.slot.cumsum(1) - logs.slot)
    whole = ESTIMATORS["marginalised"].estimate(logs, target, LOOSE)
    for session in range(0, 300, 50):
        kept = torch.arange(300) != session
        fewer = dataclasses.replace(
            logs,
            **{n: getattr(logs, n)[kept] for n in ("reward", "pscore", "slot", "mask", "state_id")},
        )
        without = Target(prob=target.prob[kept])
        left_out = ESTIMATORS["marginalised"].estimate(fewer, without, LOOSE).value
        effect = float(whole.effect_S[session] - whole.effect_S.mean())
        assert 299 * (whole.value - left_out) == pytest.approx(effect, rel=0.05, abs=0.02)
