"""`fidelity.html`: the comparisons as a page that a person opens, nothing fetched from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from recomind.evaluation.fidelity.absent import is_absent
from recomind.evaluation.markup import legend, table
from recomind.evaluation.page_style import STYLE
from recomind.evaluation.presentation import figure
from recomind.evaluation.svg import Series, line_chart

_TITLES = {"simulator": "Training simulator", "holdout_simulator": "Hold-out simulator"}
_SMALL = (350, 260)
_NOTES = {
    "responses": "Dated logged events of the test days. 'Mean' is what the models believe; "
    "'sampled' is what sessions are drawn from, which pessimism holds down on purpose.",
    "leaving": "Share of users still there after so many events, of logged sessions on later days: "
    "observed, and as the hazard predicts it along the same events.",
    "sessions": "Logged sessions of later days, and simulated ones that begin alike and are shown "
    "the same items; behind the logged end, items drawn from the same day's log.",
    "rank_agreement": "Mean reward per session of the same policies in the simulator and in the "
    "world, choosing from pools of chance. What counts is the order, not the level.",
    "rank_agreement_acting": "The same from the round's own pools, nearest items among them, in "
    "which its policy trains and acts.",
    "dynamics": "Mean reward per session of policies that differ by what they do to a session. "
    "Where the simulators disagree on one, the logs do not tell: collect sessions of it first.",
}


def render_page(fidelity: Mapping[str, Any]) -> str:
    """The page for what `measure_fidelity` returned; equal content, equal bytes."""
    body = "".join(_simulator(name, entry) for name, entry in fidelity["simulators"].items())
    if "dynamics" in fidelity:
        body += _card("Dynamics", fidelity["dynamics"], _dynamics, _NOTES["dynamics"])
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>recomind: fidelity of the simulators</title>"
        f'<link rel="icon" href="data:,"><style>{STYLE}</style></head>\n'
        "<body><main><h1>recomind fidelity of the simulators, "
        f"{fidelity['num_events']:,} logged events of later days</h1>\n{body}</main></body>\n"
        "</html>\n"
    )


def _simulator(name: str, entry: Mapping[str, Any]) -> str:
    return (
        f"<h2>{escape(_TITLES.get(name, name))}</h2>"
        + _verdict(entry)
        + _card("Responses", entry["responses"], _responses, _NOTES["responses"])
        + _card("Leaving", entry["leaving"], _leaving, _NOTES["leaving"])
        + _card("Whole sessions", entry["sessions"], _sessions, _NOTES["sessions"])
        + _card("Exploring rows", entry["exploring"], _responses, "Rows shown by chance alone.")
        + _card("Rank agreement", entry["rank_agreement"], _agreement, _NOTES["rank_agreement"])
        + _card(
            "Rank agreement where policies act",
            entry["rank_agreement_acting"],
            _agreement,
            _NOTES["rank_agreement_acting"],
        )
    )


def _verdict(entry: Mapping[str, Any]) -> str:
    """The alarm, and whether the hazard holds."""
    alarm, leaving = entry["confounding"], entry["leaving"]
    word, style = "No confounding alarm", " yes"
    if alarm["raised"]:
        word, style = "Confounded logs", ""
    elif is_absent(alarm):
        word, style = "Confounding was not tested", " untested"
    facts = [escape(alarm["reason"])]
    if not is_absent(leaving):
        holds = "within" if leaving["passed"] else "beyond"
        facts.append(
            f"survival is off by {figure(leaving['max_difference'])} at most, "
            f"{holds} the bar of {figure(leaving['bar'])}"
        )
    items = "".join(f"<li>{text}</li>" for text in facts)
    return f'<div class="card verdict{style}"><div class="word">{word}</div><ul>{items}</ul></div>'


def _card(title: str, section: Mapping[str, Any], render: Any, note: str) -> str:
    inner = _empty(section) if is_absent(section) else render(section)
    return f'<h3>{title}</h3><p class="note">{note}</p><div class="card">{inner}</div>\n'


def _empty(section: Mapping[str, Any]) -> str:
    return f'<p class="empty">Not to be had: {escape(section["reason"])}.</p>'


def _figure(value: Any) -> str:
    if isinstance(value, str):
        return escape(value)
    return "-" if value is None or is_absent(value) else figure(value)


def _table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[Any]]]) -> str:
    return table(head, [(name, [_figure(v) for v in values], "") for name, values in rows])


def _chart(
    title: str,
    lines: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    **options: Any,
) -> str:
    series = [
        Series(name=name, points=list(zip(x, y, strict=True)), style=f"arm-{k}", dots=len(x) < 15)
        for k, (name, x, y) in enumerate(lines)
    ]
    chart = line_chart(
        series, title=title, x_label=x_label, y_label=y_label, size=_SMALL, **options
    )
    return f"<div><h3>{escape(title)}</h3>{chart}{legend(series)}</div>"


def _plots(parts: Sequence[str]) -> str:
    return f'<div class="plots">{"".join(parts)}</div>'


def _responses(section: Mapping[str, Any]) -> str:
    plots = []
    for task, entry in section.items():
        lines = [
            (
                kind,
                _column(entry[kind]["bins"], "predicted"),
                _column(entry[kind]["bins"], "observed"),
            )
            for kind in ("mean", "sampled")
        ]
        plots.append(
            _chart(f"Calibration of {task}", lines, "predicted", "observed", diagonal=True)
        )
    rows = [
        (
            task,
            [
                e["n"],
                e["rate"],
                e["mean"]["average"],
                e["mean"]["auc"],
                e["mean"]["ece"],
                e["sampled"]["average"],
                e["sampled"]["auc"],
                e["sampled"]["ece"],
            ],
        )
        for task, e in section.items()
    ]
    head = ["", "events", "rate", "mean", "AUC", "ECE", "sampled", "AUC", "ECE"]
    return _table(head, rows) + _plots(plots)


def _column(bins: Sequence[Mapping[str, float]], name: str) -> list[float]:
    return [each[name] for each in bins]


def _leaving(section: Mapping[str, Any]) -> str:
    after = list(range(1, len(section["observed"]) + 1))
    lines = [(kind, after, section[kind]) for kind in ("observed", "predicted", "sampled")]
    rows = [
        ("predicted", [section["max_difference"]]),
        ("sampled", [section["max_difference_sampled"]]),
        ("standard error of the observed, at most", [max(section["standard_error"])]),
    ]
    chart = _chart("Survival", lines, "events", "share still there", y_range=(0.0, 1.0))
    return _plots([chart]) + _table(["largest difference", "survival"], rows)


def _sessions(section: Mapping[str, Any]) -> str:
    parts = []
    for title, name in (("Events a session", "length"), ("Dwell, seconds", "dwell")):
        entry = section[name]
        parts.append(f"<h3>{title}</h3>")
        parts.append(_empty(entry) if is_absent(entry) else _quantiles(entry))
    return "".join(parts) + _positions(section["by_position"]) + _two_sample(section["two_sample"])


def _quantiles(entry: Mapping[str, Any]) -> str:
    levels = [f"{level:.0%}" for level in entry["quantiles"]["levels"]]
    rows = [(who, entry["quantiles"][who]) for who in ("logged", "simulated")]
    said = f"<p>KS statistic {figure(entry['ks'])}, quantiles:</p>"
    return said + _table(["", *levels], rows)


def _positions(section: Mapping[str, Any]) -> str:
    if is_absent(section):
        return _empty(section)
    plots = [
        _chart(
            f"Rate of {task}",
            [(who, entry["position"], entry[who]) for who in ("logged", "simulated")],
            "position in the session",
            "rate",
        )
        for task, entry in section.items()
    ]
    return "<h3>Response rates by position</h3>" + _plots(plots)


def _two_sample(section: Mapping[str, Any]) -> str:
    title = "<h3>Can a classifier tell them apart?</h3>"
    if is_absent(section):
        return title + _empty(section)
    rows = [
        (f["feature"], [f["gain_share"], f["logged"], f["simulated"]])
        for f in section["top_features"]
    ]
    said = (
        f"<p>AUC {figure(section['auc'])} over {section['n']:,} pairs; 0.5 is perfect, and chance "
        f"alone moves it by {section['standard_error']:.3f}.</p>"
    )
    return title + said + _table(["told by", "gain", "logged", "simulated"], rows)


def _agreement(section: Mapping[str, Any]) -> str:
    order = sorted(range(len(section["policies"])), key=lambda k: section["true"][k])
    rows = [
        (
            section["policies"][k],
            [
                section["true"][k],
                section["true_error"][k],
                section["simulated"][k],
                section["simulated_error"][k],
            ],
        )
        for k in order
    ]
    said = f"<p>Kendall's tau {_figure(section['kendall_tau'])} over {section['n']:,} sessions.</p>"
    return said + _table(["", "true", "± se", "simulated", "± se"], rows)


def _dynamics(section: Mapping[str, Any]) -> str:
    environments = list(section["rewards"])
    rows = [
        (name, [section["rewards"][environment][k] for environment in environments])
        for k, name in enumerate(section["policies"])
    ]
    plan = [
        f"<li>{each['sessions']:,} sessions of {escape(each['policy'])}, at {each['cost']:.0%} of "
        "the ranker's reward</li>"
        for each in section["plan"]
    ]
    said = f"<p>Topic: {escape(section['topic'])}; {section['n']:,} sessions each.</p>"
    wanted = f"<p>Collect first:</p><ul>{''.join(plan)}</ul>" if plan else ""
    return said + _table(["", *environments], rows) + wanted
