"""A real A/B test beside what was forecast of it: which method to believe next time.

    arm,value
    ranker,5.12
    policy,5.47

An environment of the report is a method, and so is each estimator of its logs. A method forecasts
by the mean that it has for each arm; what counts is the order, so methods need not agree in level.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from scipy.stats import kendalltau

from recomind.errors import ConfigError, SchemaError, did_you_mean
from recomind.evaluation.presentation import figure

_COLUMNS = ("arm", "value")


@dataclass(kw_only=True, slots=True)
class Method:
    """One way of forecasting, held against the outcome."""

    name: str
    forecast: dict[str, float | None]  # arm -> mean of the metric; None where it has none
    kendall_tau: (
        float | None
    )  # rank correlation with the outcome; None below two arms or where all tie
    regret_at_1: float | None  # share of the best outcome that its first choice would have lost


def read_outcome(path: Path, arms: list[str]) -> dict[str, float]:
    """Arm -> outcome, from a CSV with the columns `arm` and `value`.

    Raises:
        ConfigError: there is no such file.
        SchemaError: a column, an arm or a value that cannot be, or fewer than two arms.
    """
    if not path.is_file():
        raise ConfigError("ab is no file", got=path, expected="a CSV with arm,value")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        absent = [name for name in _COLUMNS if name not in names]
        if absent:
            raise SchemaError(f"{path} lacks columns", got=list(names), expected=list(_COLUMNS))
        rows = list(reader)
    found: dict[str, float] = {}
    for number, row in enumerate(rows, 2):
        arm, value = (row["arm"] or "").strip(), _number(row["value"])
        if arm not in arms:
            raise SchemaError(
                f"{path}, line {number}: no arm of the report",
                got=repr(arm),
                expected=f"one of {arms}",
                mend=did_you_mean(arm, arms),
            )
        if arm in found:
            raise SchemaError(f"{path}, line {number}: an arm twice", got=repr(arm))
        if value is None:
            raise SchemaError(f"{path}, line {number}: no finite number", got=repr(row["value"]))
        found[arm] = value
    if len(found) < 2:
        raise SchemaError(f"{path} compares nothing", got=f"{len(found)} arms", expected=">= 2")
    return found


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def compare_with_outcome(
    report: Mapping[str, Any], outcome: Mapping[str, float], metric: str
) -> dict[str, Any]:
    """The contents of `ab.json`: `metric`, `outcome`, and the methods, best rank agreement first.

    Args:
        report: as in `report.json`.
        outcome: arm -> what the real test measured; higher is better.
        metric: the one that was measured.

    Raises:
        SchemaError: no method has a forecast of two of the arms.
    """
    methods = [
        _judged(name, {arm: means.get(arm) for arm in outcome}, outcome)
        for name, means in _forecasts(report, metric).items()
    ]
    methods = [each for each in methods if each.regret_at_1 is not None]
    if not methods:
        raise SchemaError(
            f"nothing in the report forecasts {metric} of two of these arms", got=list(outcome)
        )
    methods.sort(key=lambda each: (-(each.kendall_tau or 0.0), each.regret_at_1 or 0.0, each.name))
    return {
        "format_version": 1,
        "metric": metric,
        "outcome": dict(outcome),
        "methods": [asdict(each) for each in methods],
    }


def _forecasts(report: Mapping[str, Any], metric: str) -> dict[str, dict[str, float]]:
    """Method -> arm -> mean."""
    found: dict[str, dict[str, float]] = {}
    for entry in report["environments"]:
        if "ope" not in entry:
            means = {arm: m.get(metric, {}).get("mean") for arm, m in entry["arms"].items()}
            found[entry["name"]] = {a: v for a, v in means.items() if v is not None}
            continue
        for arm, by_metric in entry["ope"].items():
            for of, estimates in by_metric.items():
                for name, estimate in estimates["estimates"].items():
                    if estimate["value"] is not None:
                        method = f"{entry['name']}: {name} of {of}"
                        found.setdefault(method, {})[arm] = estimate["value"]
    return found


def _judged(name: str, forecast: dict[str, float | None], outcome: Mapping[str, float]) -> Method:
    known = {arm: value for arm, value in forecast.items() if value is not None}
    tau = regret = None
    if len(known) >= 2:
        ranked: Any = kendalltau(list(known.values()), [outcome[arm] for arm in known])
        tau = float(ranked.statistic) if math.isfinite(ranked.statistic) else None
        best = max(outcome[arm] for arm in known)
        chosen = outcome[max(known, key=lambda arm: known[arm])]
        regret = (best - chosen) / abs(best) if best else best - chosen
    return Method(name=name, forecast=forecast, kendall_tau=tau, regret_at_1=regret)


def print_comparison(comparison: Mapping[str, Any], console: Console | None = None) -> None:
    """Forecast and outcome at the terminal."""
    table = Table(title=f"{comparison['metric']}: forecast and outcome")
    for name in ("", *comparison["outcome"], "kendall_tau", "regret at 1"):
        table.add_column(escape(name), overflow="fold")
    table.add_row("the real test", *map(figure, comparison["outcome"].values()), "", "")
    for method in comparison["methods"]:
        values = [*method["forecast"].values(), method["kendall_tau"], method["regret_at_1"]]
        table.add_row(escape(method["name"]), *map(figure, values))
    (console or Console()).print(table)
