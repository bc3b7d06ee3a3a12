from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hydra import compose, initialize_config_dir

from recomind.config import conf_dir, register, resolve, reward_weights
from recomind.data import make_source
from recomind.data.sources.table.amounts import Amount
from recomind.errors import ConfigError
from tests.data.feed import feed_settings, write_feed

STEPS = [2.0, 5.0, 10.0, 20.0, 40.0]
AMOUNTS = {"minutes": {"value": "read_seconds / 60", "steps": [s / 60 for s in STEPS]}}


def test_the_weighted_steps_add_up_to_the_amount() -> None:
    amount = Amount(value="x", steps=list(np.linspace(0.01, 90, 4500)))
    x = np.random.default_rng(0).exponential(8.0, 500)
    weights = list(amount.weights("x").values())
    counted = [sum(w for w, step in zip(weights, amount.steps, strict=True) if v > step) for v in x]
    np.testing.assert_allclose(counted, x, atol=0.05)


def test_the_example_of_the_page() -> None:
    assert list(Amount(value="x", steps=[10, 30, 60]).weights("x").values()) == [20, 25, 30]


def test_an_amount_becomes_tasks_and_its_weight_theirs(tmp_path: Path) -> None:
    settings = feed_settings(write_feed(tmp_path), amounts=AMOUNTS)
    source = make_source(settings)
    logs = source.read()
    names = [task for task in logs.tasks if task.startswith("minutes_over_")]
    assert len(names) == len(STEPS)
    weights = source.utility({"clicked": 1.0, "minutes": 0.2})
    assert list(weights) == ["clicked", *names]
    log = pl.read_parquet(tmp_path / "log.parquet")
    assert [logs.events[n].sum() for n in names] == [(log["read_seconds"] > s).sum() for s in STEPS]
    counted = sum(
        w / 0.2 * logs.events[n].to_numpy().mean() for n, w in weights.items() if n != "clicked"
    )
    assert counted == pytest.approx(log["read_seconds"].to_numpy().mean() / 60, rel=0.15)


@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        ({"minutes": "read_seconds"}, "data.amounts.minutes has no steps"),
        ({"minutes": {"steps": []}}, "do not rise from 0"),
        ({"minutes": {"steps": [3, 1]}}, "do not rise from 0"),
        ({"minutes": {"step": [3]}}, "unknown setting 'data.amounts.minutes.step'"),
    ],
)
def test_an_amount_that_is_none(tmp_path: Path, amounts: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_source(feed_settings(write_feed(tmp_path), amounts=amounts))


def config_of(tmp_path: Path, *overrides: str):
    write_feed(tmp_path)
    register()
    tasks = "data.tasks={clicked:clicked,reported:reported}"
    log = f"++data.log={{path:{tmp_path}/log.parquet,user:uid,item:article,time:ts}}"
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return resolve(compose("base", ["output=out", "data=table", log, tasks, *overrides]))


def test_reward_and_gate_follow_the_tasks_of_the_log(tmp_path: Path) -> None:
    config = config_of(tmp_path, "data.unwanted=[reported]")
    assert config.ranker.utility_weights == {"clicked": 1.0}
    assert config.gate.target_metric == "clicked_per_session"
    assert config.gate.must_not_rise == ["reported_per_session"]
    assert config.policy.support_density == 0.0


def test_a_reward_replaces_and_never_merges(tmp_path: Path) -> None:
    config = config_of(tmp_path, "+reward.reported=-1")
    assert config.ranker.utility_weights == {"reported": -1.0}
    config = config_of(tmp_path, "+ranker.utility_weights.clicked=2")
    assert config.ranker.utility_weights == {"clicked": 2.0}


def test_the_reward_may_differ_from_the_utility(tmp_path: Path) -> None:
    alike = config_of(tmp_path, "+reward.clicked=2")
    assert (alike.simulation.reward_weights, reward_weights(alike)) == ({}, {"clicked": 2.0})
    config = config_of(tmp_path, "+reward.clicked=1", "+reward.reported=-1", "+utility.clicked=1")
    assert config.ranker.utility_weights == {"clicked": 1.0}
    assert reward_weights(config) == {"clicked": 1.0, "reported": -1.0}
    assert config.gate.target_metric == "clicked_per_session"
    with pytest.raises(ConfigError, match="the utility weighs a task that the log does not have"):
        config_of(tmp_path, "+utility.click=1")


def test_a_reward_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a task that the log does not have: 'click'.*'clicked'"):
        config_of(tmp_path, "+reward.click=1")


def test_propensities_switch_the_density_of_the_logs_on(tmp_path: Path) -> None:
    assert config_of(tmp_path, "++data.log.propensity=p_logged").policy.support_density == 0.05
    off = config_of(tmp_path, "++data.log.propensity=p_logged", "data.density=0")
    assert off.policy.support_density == 0.0
    settings = feed_settings(
        tmp_path, log={"propensity": "CASE WHEN surface = 'home' THEN p_logged END"}
    )
    with pytest.raises(ConfigError, match=r"too few propensities .*data\.density=0"):
        make_source(settings).read()
    (note,) = [n for n in make_source(settings | {"density": 0}).read().notes if "propens" in n]
    assert "too few for a density" in note
