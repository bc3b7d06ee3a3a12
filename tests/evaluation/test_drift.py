"""Drift alarms go off where something changed, and hardly ever where nothing did."""

from __future__ import annotations

import pytest
import torch

from recomind.evaluation.drift import ALPHA, CALIBRATION, EXIT, INPUT, Watched, drift_alarms
from recomind.streams import make_generator


def sessions(num: int, seed: int, change: float = 0.0, features: int = 5) -> dict[str, Watched]:
    """The last input is shifted by `change` standard deviations; so are calibration and leaving."""
    draw = make_generator(seed)
    inputs = torch.randn(num, features, generator=draw).double()
    inputs[:, -1] += change
    off = 0.1 * torch.randn(num, 1, generator=draw).double() + 0.1 * change
    left = (torch.rand(num, 1, generator=draw) < 0.1 + 0.1 * change).double()
    left[::7] = torch.nan  # where the end of a session is unknown
    return {
        INPUT: Watched(names=[f"f{n}" for n in range(features)], values=inputs),
        CALIBRATION: Watched(names=["click"], values=off),
        EXIT: Watched(names=["left"], values=left),
    }


def test_a_change_raises_every_alarm_and_is_named() -> None:
    found = drift_alarms(sessions(800, 0), sessions(400, 1, change=1.0), seed=0)
    assert set(found) == {INPUT, CALIBRATION, EXIT}
    assert all(alarm["raised"] for alarm in found.values())
    assert found[INPUT]["most"] == "f4"
    assert found[EXIT]["z"] > 0.0  # more of them leave


def test_without_a_change_alarms_are_as_rare_as_promised_and_say_how_rare() -> None:
    raised = {INPUT: 0, CALIBRATION: 0, EXIT: 0}
    for seed in range(200):
        pair = sessions(300, 2 * seed), sessions(150, 2 * seed + 1)
        for kind, alarm in drift_alarms(*pair, seed=0, num_splits=0).items():
            raised[kind] += alarm["raised"]
            assert alarm["false_alarm_rate"] is None
    # 1 % of 200, and three standard errors of it.
    assert max(raised.values()) <= 200 * ALPHA + 3 * (200 * ALPHA) ** 0.5
    for alarm in drift_alarms(sessions(300, 0), sessions(150, 1), seed=0).values():
        assert alarm["false_alarm_rate"] <= 0.05


def test_many_features_do_not_raise_more_false_alarms() -> None:
    few, many = (
        drift_alarms(sessions(400, 0, features=n), sessions(200, 1, features=n), seed=0)[INPUT]
        for n in (2, 60)
    )
    assert many["false_alarm_rate"] <= 0.05
    assert few["false_alarm_rate"] <= 0.05


def test_what_hardly_ever_happens_is_no_alarm_when_it_does() -> None:
    def rare(num: int, seed: int) -> dict[str, Watched]:
        happened = torch.rand(num, 12, generator=make_generator(seed)) < 0.004
        return {INPUT: Watched(names=[f"f{n}" for n in range(12)], values=happened.double())}

    alarm = drift_alarms(rare(300, 0), rare(150, 1), seed=0)[INPUT]
    assert not alarm["raised"]
    assert alarm["false_alarm_rate"] <= 0.05


def test_a_number_that_never_varied_and_does_now_is_an_alarm() -> None:
    still, moved = sessions(100, 0), sessions(100, 1)
    still[EXIT].values[:], moved[EXIT].values[:] = 0.0, 1.0
    found = drift_alarms(still, moved, seed=0)
    assert found[EXIT]["raised"]
    assert drift_alarms(still, still, seed=0)[EXIT] == pytest.approx(
        {"raised": False, "most": "left", "z": 0.0, "false_alarm_rate": 0.0}
    )


def test_few_sessions_say_nothing() -> None:
    assert drift_alarms(sessions(100, 0), sessions(20, 1), seed=0) == {}
