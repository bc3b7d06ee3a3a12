"""The release gate: a table of what is shown and what follows."""

from __future__ import annotations

import pytest

from recomind.errors import ConfigError
from recomind.evaluation.config import EvaluationConfig, GateConfig
from recomind.evaluation.gate import decide

UP, DOWN, UNSURE = (0.1, 0.05, 0.15), (-0.1, -0.15, -0.05), (0.01, -0.02, 0.04)
BARELY = (0.03, 0.01, 0.05)  # shown, but within what a simulator may err by
FAR_UP, WIDE = (0.3, 0.2, 0.4), (0.021, -0.262, 0.304)


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
        ([environment("world", hide=FAR_UP)], False, "guardrail hide_per_session rose"),
        ([environment("world", hide=UP)], True, "hide_per_session holds in the world: +10.0 %"),
        (
            [environment("world", hide=WIDE)],
            False,
            "hide_per_session is not shown in the world: +2.1 % [-26.2, +30.4] does not exclude "
            "more than +15.0 %; with no difference at all it would take some 33 sessions, "
            "there were 9",
        ),
        ([environment("world", depth=WIDE)], False, "session_depth is not shown in the world"),
        ([environment("world", hide=DOWN)], True, "guardrail hide_per_session holds"),
        ([environment("world", hide=None)], True, "hide_per_session does not exist in the world"),
        ([environment("world", hide=(None,), means=(2.0, 0.0))], False, "rose in the world from 0"),
        (
            [environment("world", hide=(None,), means=(0.0, 0.0))],
            True,
            "never seen in the world: from 0 to 0",
        ),
        ([environment("world", depth=(None,), means=(2.0, 0.0))], True, "depth holds in the world"),
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
        (
            [environment("simulator", UNSURE), environment("holdout_simulator")],
            False,
            "is +1.0 % [-2.0, +4.0] in the simulator, where the policy trained: it is not shown "
            "above 0 % even there.",
        ),
        (
            [environment("simulator", (None,)), environment("holdout_simulator")],
            False,
            "is not known in the simulator, where the policy trained",
        ),
        (
            [
                environment("simulator", over={"served_policy": UNSURE}),
                environment("holdout_simulator", over={"served_policy": UP}),
            ],
            False,
            "over served_policy is +1.0 % [-2.0, +4.0] in the simulator, where the policy trained",
        ),
        ([environment("simulator"), environment("holdout_simulator")], True, "the holdout_sim"),
        ([environment("simulator"), environment("holdout_simulator", DOWN)], False, "holdout_sim"),
        (
            [environment("holdout_simulator", BARELY)],
            False,
            "is +3.0 % [+1.0, +5.0], which does not lie above +2.0 %.",
        ),
        ([environment("world", BARELY)], True, "all of it above 0 %"),
        (
            [environment("holdout_simulator", over={"first_ranker": BARELY})],
            False,
            "over first_ranker in the holdout_simulator is +3.0 % [+1.0, +5.0], which does not",
        ),
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
    assert decide(world, GateConfig(tolerance=0.04))["released"]
    assert not decide(world, GateConfig(tolerance=0.04, min_lift=0.05))["released"]
    one = GateConfig(tolerances={"session_depth": 0.04, "hide_per_session": 0.15})
    assert decide(world, one)["released"]


def test_what_a_simulator_must_show_is_a_setting():
    simulated = [environment("simulator"), environment("holdout_simulator", BARELY)]
    assert not decide(simulated, GateConfig())["released"]
    assert decide(simulated, GateConfig(simulator_margin=0.0))["released"]
    assert not decide(simulated, GateConfig(simulator_margin=0.0, min_lift=0.02))["released"]
    with pytest.raises(ConfigError, match=r"gate.simulator_margin is a ratio; got: -0.1"):
        GateConfig(simulator_margin=-0.1)


def with_seeds(lifts, over, hide=UNSURE):
    """A world in which the policy and further seeds were played; `hide` is of the last one."""
    names = ["policy", *(f"policy_seed_{number}" for number in range(2, len(lifts) + 1))]
    metric = "watch_10s_per_session"
    found = {name: {metric: lift(*value)} for name, value in zip(names, lifts, strict=True)}
    found[names[-1]]["hide_per_session"] = lift(*hide)
    return environment("world") | {"seed_lift": found, "over_seeds": {metric: lift(*over)}}


@pytest.mark.parametrize(
    ("world", "released", "reason"),
    [
        (
            with_seeds([UP, UP, DOWN], UP),
            True,
            "over 3 seeds of training in the world is +10.0 % [+5.0, +15.0] (+10.0 %, +10.0 %, "
            "-10.0 %; the first is the policy), all of it above 0 %",
        ),
        (with_seeds([UP, UP, DOWN], UNSURE), False, "(+10.0 %, +10.0 %, -10.0 %; the first is"),
        (with_seeds([UP, UP, UP], UP, FAR_UP), False, "Of policy_seed_3: The guardrail hide_per_"),
        (with_seeds([UP, UP, UP], UP, WIDE), True, "mean lift"),
        (with_seeds([UP, UP, UP], (None,)), False, "seeds is not known in the world: the baseline"),
        (with_seeds([UP, UP], UP), False, "3 seeds were asked for, and the world has played 2."),
        (environment("world"), False, "3 seeds were asked for, and the world has played 1."),
        (
            with_seeds([UP, UP, UP], BARELY) | {"kind": "holdout_simulator"},
            False,
            "(+10.0 %, +10.0 %, +10.0 %; the first is the policy), which does not lie above +2.0 %",
        ),
    ],
)
def test_several_seeds_of_training_must_win_together(world, released, reason):
    verdict = decide([world], GateConfig(seeds=3))
    assert verdict["released"] is released
    assert any(reason in sentence for sentence in verdict["reasons"]), verdict["reasons"]


def test_seeds_are_those_of_the_policy_alone():
    verdict = decide(
        [environment("world")], GateConfig(seeds=3), policy_arm="ranker", baseline_arm="policy"
    )
    assert verdict["released"]


def test_what_is_not_shown_blocks_unless_the_config_says_otherwise():
    world = [environment("world", hide=WIDE)]
    (depth, hide) = decide(world, GateConfig())["guardrails"]
    assert (depth["status"], hide["status"]) == ("holds", "not shown")
    assert (hide["sessions_needed"], depth["sessions_needed"]) == (33, None)
    verdict = decide(world, GateConfig(block_unshown=False))
    assert verdict["released"]
    assert any("hide_per_session is not shown" in reason for reason in verdict["reasons"])
    moved = [environment("world", hide=FAR_UP)]
    assert not decide(moved, GateConfig(block_unshown=False))["released"]


def test_no_number_of_sessions_shows_a_tolerance_of_nothing():
    config = GateConfig(tolerances={"hide_per_session": 0.0})
    reasons = decide([environment("world", hide=WIDE)], config)["reasons"]
    assert "no number of sessions shows a tolerance of 0" in reasons[0]


def test_a_guardrail_is_judged_by_the_sessions_that_were_added_for_it():
    world = environment("world", hide=WIDE)
    world["guardrail_lift"] = {"hide_per_session": lift(0.0, -0.05, 0.05) | {"n": 300}}
    verdict = decide([world], GateConfig())
    assert verdict["released"]
    assert verdict["guardrails"][1]["num_sessions"] == 300


def with_arm(entry, arm, mean, **measures):
    entry["arms"][arm] = {"watch_10s_per_session": {"mean": mean, **measures}}
    return entry


@pytest.mark.parametrize(
    ("chance", "over_chance", "released", "warned"),
    [
        (1.5, (0.2, 0.1, 0.3), True, True),  # the policy beats both
        (1.5, (0.01, -0.1, 0.1), False, True),  # better than a ranker that is worse than chance
        (0.9, (0.01, -0.1, 0.1), True, False),  # the ranker beats chance
    ],
)
def test_a_ranker_below_chance_is_no_baseline(chance, over_chance, released, warned):
    world = with_arm(environment("world", means=(1.6, 1.0)), "random", chance)
    world["chance_lift"] = {"watch_10s_per_session": lift(*over_chance)}
    verdict = decide([world], GateConfig())
    assert verdict["released"] is released
    assert any("ranker is below random" in warning for warning in verdict["warnings"]) is warned
    if not released:
        assert "is not shown above random" in verdict["reasons"][0]


def test_a_lift_that_is_the_supports_is_a_warning():
    world = environment("world") | {"rl_lift": {"watch_10s_per_session": lift(*UNSURE)}}
    verdict = decide([world], GateConfig())
    assert verdict["released"]
    assert "may be the support's, not what was learned" in verdict["warnings"][0]
    assert decide([environment("world")], GateConfig())["warnings"] == []
    untaught = environment("world") | {"rl_lift": {"watch_10s_per_session": lift(0.0, 0.0, 0.0)}}
    (said,) = decide([untaught], GateConfig())["warnings"]
    assert "the policy was left at step 0 (training.compare_sessions)" in said
    behind = with_arm(environment("world"), "logging_policy", 1.7)
    assert "what collected the logs" in decide([behind], GateConfig())["warnings"][0]


@pytest.mark.parametrize(
    ("kind", "value", "warned"),
    [("holdout_simulator", 0.045, True), ("holdout_simulator", 0.2, False), ("world", 0.02, False)],
)
def test_a_small_lift_of_a_simulator_is_a_warning(kind, value, warned):
    judged = environment("judge") | {"kind": kind}
    judged["lift"]["watch_10s_per_session"] = lift(value, value / 2, 1.5 * value)
    verdict = decide([judged], GateConfig())
    assert verdict["released"]
    assert any("the simulator's own error" in said for said in verdict["warnings"]) is warned


@pytest.mark.parametrize(("low", "high", "warned"), [(-0.4, -0.1, True), (-0.4, 0.1, False)])
def test_a_support_that_costs_the_ranker_is_a_warning(low, high, warned):
    world = environment("world") | {
        "support_lift": {"watch_10s_per_session": lift(-0.2, low, high)}
    }
    warnings = decide([world], GateConfig())["warnings"]
    assert any("the support costs the ranker" in warning for warning in warnings) is warned


def test_a_mean_over_fewer_sessions_is_not_won():
    world = environment("world") | {"num_sessions": 100}
    for arm, counted in (("policy", 20), ("ranker", 60)):
        with_arm(world, arm, 12.0, n=counted)
    verdict = decide([world], GateConfig())
    assert not verdict["released"]
    assert (
        "mean over fewer sessions than the baseline's (20 and 60 of 100)" in verdict["reasons"][0]
    )
    with_arm(world, "policy", 12.0, n=61)
    assert decide([world], GateConfig())["released"]


def test_logs_may_veto_and_never_decide():
    logs = {"name": "held-out logs", "kind": "logs", "arms": {}}
    worse, better, unsure = (
        logs | {"lift": {"reward_per_session": lift(*values)}}
        for values in ((-0.3, -0.4, -0.2), (0.3, 0.2, 0.4), (-0.3, -0.6, 0.1))
    )
    verdict = decide([environment("world"), worse], GateConfig())
    assert not verdict["released"]
    assert verdict["reasons"] == [
        "Held-out logs veto: reward_per_session is -30.0 % [-40.0, -20.0]."
    ]
    assert decide([environment("world"), unsure], GateConfig())["released"]
    assert not decide([better], GateConfig())["released"]
    assert not decide([environment("world", DOWN), better], GateConfig())["released"]


def test_too_few_sessions_decide_nothing():
    world = environment("world") | {"num_sessions": 29}
    assert "has 29 sessions, too few" in decide([world], GateConfig())["reasons"][0]
    assert decide([world], GateConfig(min_sessions=20))["released"]


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
        ({"tolerances": {"hide_per_session": 1.0}}, r"gate.tolerances.hide_per_session is a ratio"),
        ({"tolerances": {"hides": 0.1}}, "unknown metric"),
        ({"min_sessions": 1}, "min_sessions"),
        ({"seeds": 0}, "gate.seeds"),
        ({"seeds": 2}, "the spread of two seeds"),
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
        ({"max_sessions": 1999}, "max_sessions"),
        ({"num_parity_states": 0}, "num_parity_states"),
        ({"calibration_bins": 0}, "calibration_bins"),
        ({"confidence": 95.0}, "confidence"),
        ({"policy_arm": "ranker"}, "the same"),
    ],
)
def test_bad_evaluation_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        EvaluationConfig(**settings)
