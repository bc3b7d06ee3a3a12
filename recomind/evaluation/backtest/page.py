"""`backtest.html`: a heat map of training window and evaluation day, and how figures age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from recomind.evaluation.markup import page, table
from recomind.evaluation.presentation import figure
from recomind.evaluation.svg import Series, line_chart

_SHOWN = {
    "auc": "AUC, higher is better",
    "log_loss": "log-loss in nats, lower is better",
    "ece": "calibration error, lower is better",
}
_LOWER_IS_BETTER = ("log_loss", "ece")


def render_page(backtest: Mapping[str, Any], tasks: Sequence[str]) -> str:
    """The page for what `run_backtest` returned, for these tasks; equal content, equal bytes."""
    sections = [_task(backtest, task) for task in tasks]
    unit = "day" if backtest["dated"] else "part of the log (it has no dates)"
    note = (
        f"A row is a fresh ranker, fitted on {backtest['window_days']} days; a column is the "
        f"{unit} that it is judged on. Down a column: what a newer ranker is worth. Along a row: "
        "how one ranker ages."
    )
    lead = f'<p class="note">{escape(note)}</p>'
    return page("recomind: backtest", lead + "".join(sections) + _alarms(backtest))


def _task(backtest: Mapping[str, Any], task: str) -> str:
    parts = [f"<h2>{escape(task)}</h2>"]
    for name, title in _SHOWN.items():
        key = f"{name}.{task}"
        if key not in backtest["decay"]:
            continue
        ages = backtest["decay"][key]
        points = [(float(each["age_days"]), float(each["value"])) for each in ages]
        chart = line_chart(
            [Series(name=name, points=points, style="arm-0", dots=True)],
            title=f"{name} by age",
            x_label="days since the window",
            y_label=name,
            size=(350, 200),
        )
        parts.append(
            f'<div class="card"><h3>{escape(title)}</h3>{heat_map(backtest, key)}{chart}</div>'
        )
    if len(parts) == 1:
        parts.append('<p class="empty">no day has enough events of both kinds</p>')
    return "".join(parts)


def heat_map(backtest: Mapping[str, Any], key: str) -> str:
    """A table whose cells are tinted from the worst figure to the best."""
    days, windows = backtest["days"], backtest["windows"]
    judged = [cell[key] for window in windows for cell in window["cells"] if key in cell]
    low, high = min(judged), max(judged)
    if key.partition(".")[0] in _LOWER_IS_BETTER:
        low, high = high, low
    first = min(window["last"] for window in windows) + 1
    head = "".join(f"<th>{escape(day)}</th>" for day in days[first:])
    rows = []
    for window in windows:
        by_day = {cell["day"]: cell.get(key) for cell in window["cells"]}
        cells = "".join(_cell(by_day.get(day), low, high) for day in range(first, len(days)))
        name = f"{days[window['first']]} to {days[window['last']]}"
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return (
        '<div class="scroll"><table class="heat"><thead><tr><th>fitted on</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _alarms(backtest: Mapping[str, Any]) -> str:
    """How often each alarm went off, and how often it would without a change."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for window in backtest["windows"]:
        for cell in window["cells"]:
            for kind, alarm in cell.get("alarms", {}).items():
                found.setdefault(kind, []).append(alarm)
    if not found:
        return ""
    rows = []
    for kind, alarms in found.items():
        raised = [alarm for alarm in alarms if alarm["raised"]]
        false = sum(alarm["false_alarm_rate"] for alarm in alarms) / len(alarms)
        most = max(alarms, key=lambda alarm: abs(alarm["z"]))
        cells = [f"{len(raised)} of {len(alarms)}", f"{false:.1%}"]
        rows.append((kind, [*cells, f"{escape(most['most'])} ({most['z']:+.1f} errors)"], ""))
    head = ["drift alarm", "raised", "without a change", "changed most"]
    return (
        '<h2>Drift</h2><p class="note">Each later day against the last day of the window. The rate '
        "without a change is measured on random splits of that day.</p>"
        f'<div class="card">{table(head, rows)}</div>'
    )


def _cell(value: float | None, worst: float, best: float) -> str:
    if value is None:
        return "<td></td>"
    share = 1.0 if best == worst else (value - worst) / (best - worst)
    return f'<td style="--heat: {100 * share:.0f}%">{figure(value)}</td>'
