"""The arms that tell where a lift comes from, and names that no arm has."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch

from recomind.errors import ConfigError, SchemaError
from recomind.evaluation.arms import InSupport
from recomind.evaluation.config import EvaluationConfig, GateConfig, check_arms
from recomind.evaluation.preflight import check_request, require_target
from recomind.evaluation.report import environment_entry
from recomind.policy import PolicyConfig, QNetwork
from recomind.types import Candidates


class Network:
    """Q says the opposite of utility; items are as dense as their id says."""

    def __init__(self, tau, keeps_ranker):
        self.config = PolicyConfig(
            support_ratio=0.0, support_density=tau, support_keeps_ranker=keeps_ranker
        )
        self.density = object()


class Running:
    def __init__(self, utility):
        self.utility = utility

    def encode_state(self, state):
        return None

    def score_encoded(self, encoding, item_id):
        return -self.utility, self.utility

    def log_density(self, encoding, item_id):
        return item_id.double().exp().log()


_TAU = math.exp(-1.5)  # covers 3 and 4


@pytest.mark.parametrize(
    ("tau", "keeps_ranker", "chosen", "possible"),
    [
        (_TAU, False, 3, {3, 4}),
        (_TAU, True, 3, {1, 3, 4}),
        (0.0, False, 1, {1, 2, 3, 4}),
    ],
)
def test_the_ranker_in_support_takes_its_best_of_what_is_covered(
    monkeypatch, world, tau, keeps_ranker, chosen, possible
):
    ids = torch.tensor([[1, 2, 3, 4]])
    utility = torch.tensor([[0.9, 0.5, 0.4, 0.1]])
    monkeypatch.setattr("recomind.evaluation.arms.RunningQ", lambda network: Running(utility))
    pool = Candidates(
        item_id=ids,
        mask=torch.ones_like(ids).bool(),
        log_propensity=torch.zeros(1, 4),
        batch_size=[1],
    )
    network, state = cast(QNetwork, Network(tau, keeps_ranker)), world.reset_to(torch.tensor([0]))
    decision = InSupport(network).act(state, pool, torch.zeros(1, 4))
    assert decision.item_id.tolist() == [chosen]
    by_chance = InSupport(network, by_chance=True)
    drawn = {int(by_chance.act(state, pool, torch.rand(1, 4)).item_id) for _ in range(200)}
    assert drawn == possible


def test_a_lift_is_split_into_support_and_learning(play, evaluation):
    arms = {
        "ranker": play("middle"),
        "ranker_in_support": play("random"),
        "policy": play("best"),
    }
    entry = environment_entry("w", "world", arms, evaluation)
    metric = "reward_per_session"
    support, learning = entry["support_lift"][metric], entry["rl_lift"][metric]
    whole = (1 + support["value"]) * (1 + learning["value"]) - 1
    assert whole == pytest.approx(entry["lift"][metric]["value"])
    assert learning["low"] > 0
    without = environment_entry("w", "world", {"policy": arms["policy"]}, evaluation)
    assert without["rl_lift"] == {}


@pytest.mark.parametrize("name", ["polcy", "Policy", ""])
def test_an_arm_that_no_report_has(name):
    with pytest.raises(ConfigError, match="policy_arm names no arm of this run"):
        EvaluationConfig(policy_arm=name)


def test_an_arm_that_this_run_does_not_have():
    config = EvaluationConfig(baseline_arm="first_ranker")
    check_arms(config, ["policy", "first_ranker"])
    with pytest.raises(ConfigError, match=r"baseline_arm names no arm.*got: first_ranker"):
        check_arms(config, ["policy", "ranker"])


def test_a_target_that_a_deciding_environment_cannot_have(world):
    evaluation, arms = EvaluationConfig(), ["ranker", "policy"]
    named = [("the world", "world", world), ("sim", "simulator", None)]
    for target in ("hide_per_session", "watch_10s_per_session", "env_reward_per_session"):
        check_request(evaluation, GateConfig(target_metric=target, must_not_rise=[]), arms, named)
    with pytest.raises(ConfigError, match=r"no metric of the world; got: hides_per_session.*hide_"):
        check_request(evaluation, GateConfig(target_metric="hides_per_session"), arms, named)


def test_a_target_without_any_lift_is_no_verdict():
    gate = GateConfig()
    lift = {"value": None, "low": None, "high": None, "reason": "the baseline's mean is 0"}
    without = {"name": "w", "kind": "world", "lift": {gate.target_metric: lift}}
    with pytest.raises(SchemaError, match=r"has no lift in any.*the baseline's mean is 0"):
        require_target([without], gate)
    with pytest.raises(SchemaError, match="it was not measured"):
        require_target([without | {"lift": {}}], gate)
    with_one = without | {"lift": {gate.target_metric: lift | {"value": 0.0}}}
    require_target([without, with_one], gate)
    require_target([without | {"kind": "simulator"}], gate)  # which decides nothing


def test_coverage_can_be_no_target():
    with pytest.raises(ConfigError, match="coverage cannot be the target"):
        GateConfig(target_metric="coverage")


def test_the_support_of_a_policy_is_compared_with_its_ranker_and_not_with_what_is_served(play):
    played = {"served_policy": play("best"), "ranker": play("worst"), "policy": play("best")}
    played["ranker_in_support"] = play("best")
    config = EvaluationConfig(baseline_arm="served_policy")
    entry = environment_entry("tiny", "world", played, config, ["ranker"])
    assert entry["lift"]["session_depth"]["value"] == 0.0
    assert entry["support_lift"] == entry["lift_over"]["ranker"]
    assert entry["support_lift"]["session_depth"]["value"] > 0.1
