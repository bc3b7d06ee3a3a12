"""Rolling windows: taste that turns over is seen on the map, and every day is the right one."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

from recomind.artifacts import Manifest
from recomind.data import SessionDataset, TableCatalogue, write_sessions
from recomind.data.times import DAY_MS
from recomind.errors import ConfigError
from recomind.evaluation.backtest.config import BacktestConfig
from recomind.evaluation.backtest.days import Days, days_of
from recomind.evaluation.backtest.measure import decay, run_backtest
from recomind.evaluation.backtest.page import heat_map, render_page
from recomind.evaluation.log_facts import log_facts
from recomind.evaluation.presentation import figure
from recomind.ranker import RankerConfig
from recomind.streams import make_generator

NUM_DAYS, PER_DAY, TURN = 7, 150, 5  # tastes turn over on day 5
FIRST_DAY_MS = 19_000 * DAY_MS
SMALL = RankerConfig(
    utility_weights={"click": 1.0},
    num_members=1,
    history_length=1,
    dim=4,
    hidden=8,
    batch_size=64,
    num_epochs=2,
    id_buckets=8,
    learning_rate=3e-2,
    id_dropout=0.0,
)
SETTINGS = BacktestConfig(window_days=2, max_windows=4, max_events=400, parts=4)


def events(first_ms: int = FIRST_DAY_MS) -> pl.DataFrame:
    """One event a session; items with a high feature are clicked, from day `TURN` on the others."""
    num = NUM_DAYS * PER_DAY
    row = torch.arange(num)
    item = torch.randint(8, (num,), generator=make_generator(0))
    day = row // PER_DAY
    clicked = (item >= 4) ^ (day >= TURN)
    time_ms = first_ms + day * DAY_MS + row % PER_DAY if first_ms else torch.zeros_like(row)
    return pl.DataFrame(
        {
            "history_id": row.numpy(),
            "session_id": row.numpy(),
            "position": torch.zeros(num, dtype=torch.int32).numpy(),
            "user_id": (row % 50).numpy(),
            "time_ms": time_ms.numpy(),
            "item_id": item.numpy(),
            "click": clicked.to(torch.uint8).numpy(),
        }
    ).with_columns(
        dwell_s=pl.lit(1.0, pl.Float32),
        left=pl.lit(False),
        left_known=pl.lit(True),
        propensity=pl.lit(None, pl.Float64),
        split=pl.lit("train"),
        holdout=pl.lit(False),
        snapshot=pl.lit(0, pl.Int32),
    )


def catalogue() -> TableCatalogue:
    return TableCatalogue(
        torch.linspace(-1, 1, 8)[None, :, None],
        torch.zeros(8, 0).long(),
        dense_names=("height",),
        categorical_names=(),
        vocab_sizes=(),
    )


def stored(folder: Path, frame: pl.DataFrame) -> Path:
    manifest = Manifest(kind="sessions", seed=0, config={}, inputs={})
    write_sessions(folder, frame, catalogue(), tasks=["click"], manifest=manifest)
    return folder


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory):
    folder = stored(tmp_path_factory.mktemp("backtest") / "sessions", events())
    dataset = SessionDataset.load([folder], 1)
    return run_backtest(dataset, days_of([folder], 4), SMALL, SETTINGS, seed=0)


def test_each_window_is_judged_on_every_later_day_and_on_no_other(found) -> None:
    assert [(w["first"], w["last"]) for w in found["windows"]] == [(0, 1), (1, 2), (3, 4), (4, 5)]
    for window in found["windows"]:
        days = [cell["day"] for cell in window["cells"]]
        assert days == list(range(window["last"] + 1, NUM_DAYS))
        assert [cell["age_days"] for cell in window["cells"]] == [d - window["last"] for d in days]
    assert found["days"][0] == "2022-01-08"
    assert found["dated"]


def test_the_day_on_which_tastes_turn_shows_on_the_map(found) -> None:
    by_day = {c["day"]: c["auc.click"] for c in found["windows"][0]["cells"]}
    assert min(by_day[day] for day in range(2, TURN)) > 0.9
    assert max(by_day[day] for day in range(TURN, NUM_DAYS)) < 0.1
    ages = {each["age_days"]: each["value"] for each in found["decay"]["auc.click"]}
    assert ages[1] > ages[5]


def test_the_alarm_for_calibration_goes_off_when_tastes_turn(found) -> None:
    raised = {c["day"]: c["alarms"]["calibration"]["raised"] for c in found["windows"][0]["cells"]}
    assert all(raised[day] for day in range(TURN, NUM_DAYS))
    inputs = [c["alarms"]["input"]["raised"] for w in found["windows"] for c in w["cells"]]
    assert sum(inputs) <= 1  # the same items are shown all along
    assert "exit" in found["windows"][0]["cells"][0]["alarms"]


def test_the_page_holds_every_figure_and_tints_the_best_most(found) -> None:
    html = render_page(found, ["click"])
    assert html.count("<tr><th>2022-") == 3 * len(found["windows"])
    assert "--heat: 100%" in heat_map(found, "auc.click")
    worst = min(c["log_loss.click"] for w in found["windows"] for c in w["cells"])
    assert f'--heat: 100%">{figure(worst)}' in heat_map(found, "log_loss.click")


def test_a_log_without_dates_is_cut_in_the_order_of_its_sessions(tmp_path: Path) -> None:
    folder = stored(tmp_path / "sessions", events(first_ms=0))
    days = days_of([folder, folder], 3)
    assert not days.dated
    assert days.names == ["part 1", "part 2", "part 3"]
    num = NUM_DAYS * PER_DAY
    assert torch.equal(days.of_event, torch.arange(2 * num) * 3 // (2 * num))


def test_a_session_over_midnight_is_of_the_day_on_which_it_began(tmp_path: Path) -> None:
    frame = events().with_columns(
        session_id=pl.col("session_id") // 2,
        history_id=pl.col("history_id") // 2,
        position=(pl.col("session_id") % 2).cast(pl.Int32),
        user_id=pl.lit(1, pl.Int64),
    )
    days = days_of([stored(tmp_path / "sessions", frame)], 3)
    assert torch.equal(days.of_event[0::2], days.of_event[1::2])


def test_days_with_too_few_events_have_no_figures() -> None:
    cells = [{"day": 3, "age_days": 1, "n": 7}, {"day": 4, "age_days": 2, "n": 200, "auc.x": 0.5}]
    assert decay([{"first": 0, "last": 2, "cells": cells}]) == {
        "auc.x": [{"age_days": 2, "value": 0.5, "num_windows": 1}]
    }


def test_a_log_without_a_day_after_the_window_is_refused(tmp_path: Path) -> None:
    dataset = SessionDataset.load([stored(tmp_path / "sessions", events())], 1)
    days = Days(of_event=torch.zeros(len(dataset)).long(), names=["a", "b"], dated=True)
    with pytest.raises(ConfigError, match="too few days for a backtest; got: 2 days"):
        run_backtest(dataset, days, SMALL, SETTINGS, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_days": 1}, "backtest.window_days; got: 1; expected: >= 2"),
        ({"parts": 3}, "backtest.parts leaves no day after a window"),
        ({"max_events": 5}, "backtest.max_events"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        BacktestConfig(**settings)


def test_the_facts_of_a_log_are_those_of_all_its_folders(tmp_path: Path) -> None:
    before = events(0).head(10).with_columns(position=pl.lit(-1, pl.Int32), split=pl.lit("history"))
    dated = [stored(tmp_path / "a", events()), stored(tmp_path / "b", events().head(30))]
    assert log_facts(dated) == {
        "num_events": NUM_DAYS * PER_DAY + 30,
        "num_sessions": NUM_DAYS * PER_DAY + 30,
        "num_users": 50,
        "first_day": "2022-01-08",
        "last_day": "2022-01-14",
    }
    undated = stored(tmp_path / "c", pl.concat([before, events(0).tail(40)]))
    assert log_facts([undated]) == {
        "num_events": 40,
        "num_sessions": 40,
        "num_users": 40,
        "first_day": None,
        "last_day": None,
    }
