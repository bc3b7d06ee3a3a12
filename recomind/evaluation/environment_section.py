"""The part of the page that shows one environment: arms, lifts, survival."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from recomind.evaluation.markup import legend, table
from recomind.evaluation.presentation import (
    KIND_NOTES,
    KIND_TITLES,
    figure,
    interval,
    measure,
    ordered_metrics,
)
from recomind.evaluation.strips_section import strips_section
from recomind.evaluation.svg import ForestRow, Series, forest_plot, line_chart

_NUM_STYLES = 6


def environment_section(entry: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Heading, table of arms, forest plot and survival curves of one environment."""
    decides = entry["name"] in report["gate"].get("decided_by", [])
    badge = "decides" if decides else "never" if entry["kind"] == "simulator" else ""
    says = "decides" if decides else "never evidence" if badge else "for information"
    return (
        f"<h2>{escape(entry['name'])}"
        f'<span class="badge {badge}">{KIND_TITLES[entry["kind"]]}: {says}</span></h2>'
        f'<p class="note">{KIND_NOTES[entry["kind"]]} '
        f"{entry['num_sessions']:,} sessions for each arm.{_behaviour(entry)}</p>"
        f'<div class="card">{_measures(entry, report)}{_lifts(entry, report)}'
        f"{_segments(entry)}{_survival(entry, report)}{strips_section(entry)}</div>\n"
    )


def _behaviour(entry: Mapping[str, Any]) -> str:
    """How good the model is that stands for missing propensities."""
    model = entry.get("behaviour")
    if not model:
        return ""
    return (
        " <b>The propensities are estimated</b> by a model of who logged: its log-loss on later "
        f"days is {figure(model['log_loss'])} nats, that of choosing blindly "
        f"{figure(model['uniform_log_loss'])}, its calibration error {figure(model['ece'])}."
    )


def _measures(entry: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    arms = [arm for arm in report["arms"] if arm in entry["arms"]]
    metrics = ordered_metrics(metric for arm in arms for metric in entry["arms"][arm])
    rows = []
    for metric in metrics:
        cells = [_measure_cell(entry["arms"][arm].get(metric)) for arm in arms]
        target = metric == report["gate"].get("target_metric")
        rows.append((metric, cells, "target" if target else ""))
    if shares := entry.get("outside_share", {}):
        cells = [f"{shares[arm]:.1%}" if arm in shares else "-" for arm in arms]
        rows.append(("share of steps outside the logs", cells, ""))
    return table(["mean ± standard error", *arms], rows)


def _measure_cell(entry: Mapping[str, Any] | None) -> str:
    mean, _, error = measure(entry).partition(" ± ")
    return f"{mean} <small>± {error}</small>" if error else mean


def _lifts(entry: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    if not entry["lift"]:
        return ""
    target = report["gate"].get("target_metric")
    rows = [
        ForestRow(label=metric, lift=entry["lift"][metric], strong=metric == target)
        for metric in ordered_metrics(entry["lift"])
    ]
    rows += [
        ForestRow(label=f"target over {arm}", lift=lifts[target], strong=True)
        for arm, lifts in entry.get("lift_over", {}).items()
        if target in lifts
    ]
    rows += _seed_rows(entry, target)
    confidence = report.get("confidence", 0.95)
    title = (
        f"Lift of {report.get('policy_arm', 'policy')} over "
        f"{report.get('baseline_arm', 'ranker')}, {confidence:.0%} intervals"
    )
    plot = forest_plot(rows, title=title).replace("<svg ", '<svg class="wide" ', 1)
    reasons = "".join(
        f'<p class="note">{escape(row.label)} {interval(row.lift)}: '
        f"{escape(row.lift['reason'])}.</p>"
        for row in rows
        if row.lift.get("reason")
    )
    return f'<h3>{escape(title)}</h3><div class="scroll">{plot}</div>{reasons}'


def _seed_rows(entry: Mapping[str, Any], target: str) -> list[ForestRow]:
    """The target of every seed of training, the losing ones too, and their mean."""
    found = {f"target of {arm}": table for arm, table in entry.get("seed_lift", {}).items()}
    if found:
        found[f"target, mean of {len(found)} seeds"] = entry["over_seeds"]
    return [
        ForestRow(label=label, lift=table[target], strong=False)
        for label, table in found.items()
        if target in table
    ]


def _segments(entry: Mapping[str, Any]) -> str:
    rows = [
        (
            row["name"],
            [
                f"{row['num_sessions']:,}",
                figure(row.get("policy")),
                figure(row.get("baseline")),
                escape(interval(row["lift"])),
            ],
            "",
        )
        for row in entry.get("segments", [])
    ]
    if not rows:
        return ""
    head = ["target by segment", "sessions", "policy", "baseline", "lift"]
    return f"<h3>Segments</h3>{table(head, rows)}"


def _survival(entry: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    series = [
        Series(name=arm, points=list(enumerate(entry["survival"][arm])), style=_style(index))
        for index, arm in enumerate(_coloured(report))
        if arm in entry["survival"]
    ]
    if not series:
        return ""
    chart = line_chart(
        series,
        title=f"Share of users still there, {entry['name']}",
        x_label="interactions",
        y_label="share still there",
        y_range=(0.0, 1.0),
        size=(760, 250),
    ).replace("<svg ", '<svg class="wide" ', 1)
    return f'<h3>Survival of sessions</h3><div class="scroll">{chart}</div>{legend(series)}'


def _coloured(report: Mapping[str, Any]) -> list[str]:
    """Arms in the order of their colours: the policy first, then the baseline, then the rest."""
    lead = [report.get("policy_arm", "policy"), report.get("baseline_arm", "ranker")]
    return lead + [arm for arm in report["arms"] if arm not in lead]


def _style(index: int) -> str:
    return f"arm-{index % _NUM_STYLES}"
