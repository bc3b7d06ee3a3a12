"""What several runs of the suite say together."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.records import Records
from experiments.suite import figures
from experiments.suite.suite import NAMES


def run(
    lift: float,
    *,
    released: int = 1,
    won: float | None = 0.5,
    simulated: tuple[float, float] = (0.05, 0.05),
) -> dict[str, float | None]:
    """Figures of a run whose true lift has an interval of .02 to either side.

    `simulated` are the least lifts in the training and in the hold-out simulator.
    """
    return {
        "lift": lift,
        "lift.low": lift - 0.02,
        "lift.high": lift + 0.02,
        "rl_lift": lift / 2,
        "rl_lift.low": lift / 2,
        "rl_lift.high": lift / 2,
        "mean.policy": 12.0,
        "sim_mean.policy": 15.0,
        "holdout_mean.policy": 9.0,
        "released": 0,
        "sim_lift.low": simulated[0],
        "holdout_lift.low": simulated[1],
        "released_on_logs": released,
        "headroom_won": won,
    }


@pytest.fixture
def records(tmp_path: Path) -> Records:
    kept = Records(tmp_path, NAMES)
    kept.keep(("pilot", "steady", "weak", 50_000, 1, 0), run(0.01, won=None))
    kept.keep(("pilot", "drift", "weak", 50_000, 1, 0), run(0.10))
    kept.keep(("pilot", "drift", "weak", 50_000, 1, 1), run(0.20))
    kept.keep(("pilot", "mood", "weak", 50_000, 1, 0), run(-0.10))
    kept.keep(("pilot", "day", "weak", 50_000, 1, 0), run(-0.30, released=0))
    return kept


def test_worlds_count_once_in_their_half_however_many_seeds_they_have(records: Records):
    found = figures.pool(records)
    assert found["lift.held_back"]["by_world"] == pytest.approx({"steady": 0.01, "drift": 0.15})
    assert found["lift.held_back"]["value"] == pytest.approx(0.08)
    assert found["rl_lift.held_back"]["value"] == pytest.approx(0.04)
    assert found["lift.chosen_on"]["value"] == pytest.approx(-0.2)
    assert found["headroom_won.held_back"]["by_world"] == {"drift": 0.5}


def test_a_release_is_wrong_where_the_truth_is_a_loss(records: Records):
    wrongly = figures.pool(records)["wrongly_released"]
    assert (wrongly["value"], wrongly["n"], wrongly["surely"]) == (1, 4, 1)
    records.keep(("pilot", "mood", "weak", 50_000, 1, 0), run(-0.01))
    assert figures.pool(records)["wrongly_released"]["surely"] == 0


@pytest.mark.parametrize(
    ("simulated", "released", "by_interval"),
    [((0.05, 0.05), 1, 1), ((0.05, 0.01), 0, 1), ((-0.01, 0.05), 0, 1), ((0.05, -0.01), 0, 0)],
)
def test_verdicts_from_before_are_held_to_what_the_gate_asks_for_now(
    tmp_path: Path, simulated: tuple[float, float], released: int, by_interval: int
):
    kept = Records(tmp_path, NAMES)
    kept.keep(("pilot", "mood", "weak", 50_000, 1, 0), run(-0.1, simulated=simulated))
    found = figures.pool(kept)
    assert found["released_on_logs"]["value"] == found["wrongly_released"]["value"] == released
    assert found["released_by_interval"]["value"] == by_interval
    assert found["wrongly_released_by_interval"]["surely"] == by_interval


def test_simulated_over_true_and_the_interval_of_a_single_run(records: Records):
    found = figures.pool(records)
    assert found["optimism.drift"]["value"] == pytest.approx(1.25)
    assert found["holdout_optimism.drift.weak.round_1.pilot_50000"]["value"] == pytest.approx(0.75)
    assert found["lift.mood"]["over"] == "sessions of one run"
    assert [found["lift.mood"][end] for end in ("low", "high")] == pytest.approx([-0.12, -0.08])
    assert found["lift.drift"]["per_seed"] == [0.1, 0.2]


def test_the_headline_is_of_the_runs_that_judge_once_there_is_one(records: Records):
    assert figures.pool(records)["lift.held_back"]["of"] == "weak.round_1.pilot_50000"
    records.keep(("full", "drift", "weak", 500_000, 2, 0), run(0.5))
    found = figures.pool(records)
    assert found["lift.drift.weak.round_2"]["value"] == 0.5
    assert found["lift.held_back"]["of"] == "weak.round_2"
    assert "drift weak.round_2" in figures.table(records)
