"""Propensities that the log lacks: a model recovers them where the state and item tell."""

from __future__ import annotations

import pytest
import torch

from recomind.errors import SchemaError
from recomind.evaluation.config import GateConfig
from recomind.evaluation.environment_section import environment_section
from recomind.evaluation.gate import vetoes
from recomind.evaluation.ope.behaviour import fit_behaviour
from recomind.evaluation.ope.held_out import PER_SESSION, held_out_sessions, logs_entry
from recomind.evaluation.ope.logs import Settings
from recomind.evaluation.ope.pools import pools_around
from recomind.streams import make_generator
from tests.evaluation.ope.test_held_out import BEST_OF_POOL, ChancePools, Greedy, logged

STEPS = 2


@pytest.fixture(scope="module")
def log():
    """A log of 1,500 sessions without propensities, whose items show their worth."""
    return logged(1500, unknown=range(3000), shows_worth=True, split=True)


@pytest.fixture(scope="module")
def behaviour(log):
    return fit_behaviour(log, ChancePools(), 0)


def test_it_recovers_what_the_log_does_not_say(log, behaviour) -> None:
    truth = logged(1500, shows_worth=True, split=True)
    rows = log.rows("test")
    pools = pools_around(log, rows, ChancePools(), make_generator(5))
    found = behaviour.propensities(log, rows, pools)
    worth = log.catalogue.features(torch.cat([pool.item_id for pool in pools])).dense[..., 0]
    exact = (2 * worth).softmax(1)[:, 0].double()
    assert float((found - exact).abs().mean()) < 0.05
    assert torch.isfinite(truth.propensity(rows)).all()
    assert not torch.isfinite(log.propensity(rows)).any()
    calibration = behaviour.calibration
    assert calibration["ece"] < 0.05
    assert calibration["log_loss"] < calibration["uniform_log_loss"]


def test_the_entry_is_marked_and_never_vetoes(log, behaviour) -> None:
    generator = make_generator(2)
    assert held_out_sessions(log, 500, STEPS, generator) is None
    held_out = held_out_sessions(log, 500, STEPS, generator, known=False)
    assert held_out is not None
    entry = logs_entry(
        log,
        held_out,
        {"policy": Greedy(-1), "ranker": Greedy(1)},
        ChancePools(),
        {"click": 1.0},
        pair=("policy", "ranker"),
        settings=Settings(min_effective=5.0),
        generator=generator,
        behaviour=behaviour,
    )
    assert entry["propensities"] == "estimated"
    assert entry["ope"]["ranker"][PER_SESSION]["propensities"] == "estimated"
    found = entry["arms"]["ranker"][PER_SESSION]
    assert abs(found["mean"] - STEPS * BEST_OF_POOL) < 4 * found["standard_error"] + 0.1
    # The policy is far below its baseline. With logged propensities that is a veto.
    assert entry["lift"][PER_SESSION]["high"] < -0.02
    assert vetoes([entry], GateConfig()) == []
    assert len(vetoes([entry | {"propensities": "logged"}], GateConfig())) == 1
    report = {"arms": [], "gate": {}}
    assert "propensities are estimated" in environment_section(entry, report)
    unmarked = environment_section(entry | {"behaviour": None}, report)
    assert "propensities are estimated" not in unmarked


def test_too_short_a_log_is_refused() -> None:
    with pytest.raises(SchemaError, match="too few logged decisions for a model"):
        fit_behaviour(logged(60, shows_worth=True, split=True), ChancePools(), 0)
