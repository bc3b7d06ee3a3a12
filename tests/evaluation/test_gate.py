"""The release gate: a table of what is shown and what follows."""

from __future__ import annotations

import pytest

from recomind.errors import ConfigError
from recomind.evaluation.config import EvaluationConfig, GateConfig
from recomind.evaluation.gate import decide

UP, DOWN, UNSURE = (0.1, 0.05, 0.15), (-0.1, -0.15, -0.05), (0.01, -0.02, 0.04)


def lift(value, low=None, high=None):
    entry = {"value": value, "low": low, "high": high, "n": 9, "method": "paired"}
    return entry if low is not None else entry | {"reason": "the baseline's mean is 0"}


def environment(kind, target=UP, depth=UNSURE, hide=UNSURE, means=(1.0, 1.0), name=None, over=None):
    table = {"watch_10s_per_session": lift(*target), "session_depth": lift(*depth)}
    if hide is not None:
        table["hide_per_session"] = lift(*hide)
    arms = {
        arm: {metric: {"mean": mean, "standard_error": None, "n": 9} for metric in table}
        for arm, mean in zip(("policy", "ranker"), means, strict=True)
    }
    further = {arm: {"watch_10s_per_session": lift(*value)} for arm, value in (over or {}).items()}
    return {
        "name": name or f"the {kind}",
        "kind": kind,
        "lift": table,
        "lift_over": further,
        "arms": arms,
    }


@pytest.mark.parametrize(
    ("environments", "released", "reason"),
    [
        ([environment("world")], True, "is +10.0 % [+5.0, +15.0], all of it above 0 %"),
        ([environment("holdout_simulator")], True, "all of it above"),
        ([environment("simulator")], False, "No environment can decide"),
        ([environment("logs")], False, "No environment can decide"),
        ([], False, "No environment can decide"),
        ([environment("world", UNSURE)], False, "does not lie above 0 %"),
        ([environment("world", DOWN)], False, "does not lie above"),
        ([environment("world", (None,))], False, "has no interval in the world: the baseline's"),
        ([environment("world", depth=DOWN)], False, "guardrail session_depth fell in the world"),
        ([environment("world", depth=UP)], True, "guardrail session_depth holds"),
        ([environment("world", hide=UP)], False, "guardrail hide_per_session rose"),
        ([environment("world", hide=DOWN)], True, "guardrail hide_per_session holds"),
        ([environment("world", hide=None)], True, "hide_per_session does not exist in the world"),
        ([environment("world", hide=(None,), means=(2.0, 0.0))], False, "rose in the world from 0"),
        ([environment("world", hide=(None,), means=(0.0, 0.0))], True, "from 0 to 0"),
        (
            [environment("world", depth=(None,), means=(1.0, 2.0))],
            False,
            "fell in the world from 2",
        ),
        ([environment("world", hide=(None,), means=(None, 0.0))], False, "could not be judged"),
        (
            [environment("world", over={"first_ranker": UNSURE})],
            False,
            "over first_ranker in the world is +1.0 % [-2.0, +4.0], which does not lie above 0 %",
        ),
        (
            [environment("world", over={"first_ranker": (None,)})],
            False,
            "over first_ranker has no interval in the world",
        ),
        ([environment("world", over={"first_ranker": UP})], True, "over first_ranker in the world"),
        ([environment("world", DOWN, over={"first_ranker": UP})], False, "does not lie above"),
        ([environment("world", DOWN), environment("holdout_simulator")], False, "the world"),
        ([environment("world"), environment("holdout_simulator", DOWN)], True, "the world"),
        ([environment("world"), environment("world", DOWN, name="B")], False, "in B is"),
        (
            [environment("holdout_simulator"), environment("holdout_simulator", UNSURE, name="B")],
            False,
            "in B is",
        ),
        ([environment("simulator", DOWN), environment("world")], True, "in the world"),
    ],
)
def test_decision(environments, released, reason):
    verdict = decide(environments, GateConfig())
    assert verdict["released"] is released
    assert any(reason in sentence for sentence in verdict["reasons"])
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in verdict["reasons"])


def test_a_refusal_names_only_what_failed():
    verdict = decide([environment("world", DOWN)], GateConfig())
    assert len(verdict["reasons"]) == 1
    assert verdict["decided_by"] == ["the world"]


def test_min_lift_and_tolerance_move_the_thresholds():
    world = [environment("world", depth=(-0.03, -0.04, -0.02))]
    assert not decide(world, GateConfig())["released"]
    assert decide(world, GateConfig(tolerance=0.02))["released"]
    assert not decide(world, GateConfig(tolerance=0.02, min_lift=0.05))["released"]


def test_a_target_that_was_not_measured():
    config = GateConfig(target_metric="like_per_session")
    assert decide([environment("world")], config)["reasons"] == [
        "The target like_per_session was not measured in the world."
    ]


def test_a_further_baseline_over_which_the_target_was_not_measured():
    world = environment("world") | {"lift_over": {"first_ranker": {}}}
    assert decide([world], GateConfig())["reasons"] == [
        "The target watch_10s_per_session over first_ranker was not measured in the world."
    ]


def test_other_names_of_the_arms():
    world = environment("world", hide=(None,), means=(0.0, 2.0))
    as_named = decide([world], GateConfig())
    swapped = decide([world], GateConfig(), policy_arm="ranker", baseline_arm="policy")
    assert (as_named["released"], swapped["released"]) == (True, False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_lift": -1.0}, "min_lift"),
        ({"min_lift": float("nan")}, "min_lift"),
        ({"tolerance": -0.1}, "tolerance"),
        ({"must_not_rise": ["session_depth"]}, "neither fall nor rise"),
        ({"must_not_fall": ["sesion_depth"]}, "did you mean 'session_depth'"),
        ({"target_metric": "watch"}, "unknown metric"),
    ],
)
def test_bad_gate_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        GateConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_sessions": 1}, "two sessions"),
        ({"num_sessions": 0}, "num_sessions"),
        ({"batch_size": 0}, "batch_size"),
        ({"num_parity_states": 0}, "num_parity_states"),
        ({"calibration_bins": 0}, "calibration_bins"),
        ({"confidence": 95.0}, "confidence"),
        ({"policy_arm": "ranker"}, "the same"),
    ],
)
def test_bad_evaluation_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        EvaluationConfig(**settings)
