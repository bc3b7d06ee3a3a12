"""Rolling windows: a fresh ranker on each, judged on every day after it.

    window    day 0  1  2  3  4  5
    0-2        fit  fit cal  x  x  x      x: AUC, log-loss, calibration error of each task
    1-3            fit fit cal  x  x

Down a column the same day is judged by older and newer rankers: what a retraining is worth. Along a
row one ranker ages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recomind.data import SessionDataset
from recomind.errors import ConfigError
from recomind.evaluation.backtest.config import BacktestConfig
from recomind.evaluation.backtest.days import Days
from recomind.evaluation.backtest.watching import watched_of
from recomind.evaluation.drift import drift_alarms
from recomind.ranker import RankerConfig, fit_ranker, new_ranker, predict, quality
from recomind.streams import draw_rows, make_generator

FORMAT_VERSION = 1
_FEW = 100  # events of a day below which its figures mean nothing
Progress = Callable[[int, int, str], None]


def run_backtest(
    dataset: SessionDataset,
    days: Days,
    ranker: RankerConfig,
    settings: BacktestConfig,
    *,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The contents of `backtest.json`.

    Returns:
        `days`, `windows` (`{first, last, cells}`, a cell for each later day: `{day, age_days, n}`
        and, from 100 events on, the figures of `recomind.ranker.metrics.quality` and `alarms`, of
        `recomind.evaluation.drift` against the window's last day),
        `decay`: for each figure its mean by age, over the windows that were judged at that age.

    Raises:
        ConfigError: the log has too few days for a window and a day after it.
    """
    lasts = _window_ends(len(days.names), settings)
    windows = []
    for number, last in enumerate(lasts):
        if progress is not None:
            progress(number, len(lasts), f"(up to {days.names[last]})")
        windows.append(_window(dataset, days, last, ranker, settings, seed))
    return {
        "format_version": FORMAT_VERSION,
        "days": days.names,
        "dated": days.dated,
        "window_days": settings.window_days,
        "windows": windows,
        "decay": decay(windows),
    }


def _window_ends(num_days: int, settings: BacktestConfig) -> list[int]:
    """Last days of the windows, with at least one day after each."""
    first, last = settings.window_days - 1, num_days - 2
    if last < first:
        raise ConfigError(
            "the log has too few days for a backtest",
            got=f"{num_days} days",
            expected=f"> backtest.window_days, {settings.window_days}",
            mend="lower backtest.window_days, or take a longer log",
        )
    num = min(settings.max_windows, last - first + 1)
    return sorted({round(float(day)) for day in torch.linspace(first, last, num)})


def _window(
    dataset: SessionDataset,
    days: Days,
    last: int,
    config: RankerConfig,
    settings: BacktestConfig,
    seed: int,
) -> dict[str, Any]:
    first = last - settings.window_days + 1
    generator = make_generator(seed)

    def of_days(low: int, high: int) -> Tensor:
        inside = (days.of_event >= low) & (days.of_event <= high)
        return draw_rows(inside.nonzero()[:, 0], settings.max_events, generator).sort().values

    learning, calibrating = of_days(first, last - 1), of_days(last, last)
    ranker = fit_ranker(
        new_ranker(dataset, config, seed),
        dataset,
        num_epochs=config.num_epochs,
        seed=seed,
        rows=lambda _: learning,
        calibration_rows=lambda _: calibrating,
    )
    # The ranker was fitted to the days before: its calibration is that of the last one.
    reference = watched_of(dataset, calibrating, ranker)
    cells = []
    for day in range(last + 1, len(days.names)):
        rows = of_days(day, day)
        cell: dict[str, Any] = {"day": day, "age_days": day - last, "n": len(rows)}
        if len(rows) >= _FEW:
            cell |= quality(*predict(ranker, dataset, rows), ranker.tasks)
            cell["alarms"] = drift_alarms(reference, watched_of(dataset, rows, ranker), seed)
        cells.append(cell)
    return {"first": first, "last": last, "cells": cells}


def decay(windows: list[dict[str, Any]]) -> dict[str, list[dict[str, float | int]]]:
    """Figure -> `{age_days, value, num_windows}`, youngest first."""
    found: dict[str, dict[int, list[float]]] = {}
    for window in windows:
        for cell in window["cells"]:
            for name in cell.keys() - {"day", "age_days", "n", "alarms"}:
                found.setdefault(name, {}).setdefault(cell["age_days"], []).append(cell[name])
    return {
        name: [
            {"age_days": age, "value": sum(values) / len(values), "num_windows": len(values)}
            for age, values in sorted(by_age.items())
        ]
        for name, by_age in sorted(found.items())
    }
