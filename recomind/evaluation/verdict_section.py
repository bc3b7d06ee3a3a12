"""The top of the page: the verdict, what decided, where the lift comes from, the guardrails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from recomind.evaluation.config import RANKER_IN_SUPPORT, own_ranker
from recomind.evaluation.markup import table
from recomind.evaluation.presentation import interval, percent, verdict


def verdict_section(report: Mapping[str, Any]) -> str:
    """Verdict and reasons, then three small tables."""
    gate = report["gate"]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in gate["reasons"])
    warnings = "".join(
        f'<p class="warning">{escape(warning)}</p>' for warning in gate.get("warnings", [])
    )
    return (
        f'<div class="card verdict{" yes" if gate["released"] else ""}">'
        f'<div class="word">{verdict(gate)}</div>{_judged(report)}<ul>{reasons}</ul>{warnings}'
        f"{_power(report)}</div>\n{_source(report)}{_guardrails(gate)}"
    )


def _judged(report: Mapping[str, Any]) -> str:
    """What the verdict is about: the arms, what decided, and which policy."""
    gate = report["gate"]
    decided = ", ".join(map(str, gate.get("decided_by", []))) or "nothing"
    arms = (str(report.get(f"{name}_arm", name)) for name in ("policy", "baseline"))
    identity = gate.get("policy_identity")
    which = f" Policy <code>{escape(identity[:12])}</code>." if identity else ""
    return (
        f'<p class="note">{escape(" over ".join(arms))}; decided by {escape(decided)}.{which}</p>'
    )


def _power(report: Mapping[str, Any]) -> str:
    """What the sessions could find, as it was said before they ran."""
    return "".join(
        f'<p class="note">Before it ran, of {escape(name)}: {escape(said)}.</p>'
        for name, said in report.get("power", {}).items()
    )


def _source(report: Mapping[str, Any]) -> str:
    """The lift of the target in every environment, split into support and learning."""
    target = report["gate"].get("target_metric")
    baseline = str(report.get("baseline_arm", "ranker"))
    ranker = own_ranker(baseline)
    rows = [
        (
            entry["name"],
            [
                escape(interval(lift[target])) if target in lift else "-"
                for lift in _parts(entry, ranker if ranker != baseline else None)
            ],
            "target" if entry["name"] in report["gate"].get("decided_by", []) else "",
        )
        for entry in report["environments"]
        if target in entry.get("rl_lift", {})
    ]
    if not rows:
        return ""
    note = (
        f"{escape(RANKER_IN_SUPPORT)} ranks as {escape(ranker)} does, among the items that the "
        "policy's support covers. Its own lift is what the support gives; the policy's lift over "
        "it is what was learned."
    )
    over = dict.fromkeys((f"over {baseline}", f"over {ranker}"))
    head = [f"lift of {target}", *over, "by the support", "by learning"]
    return (
        f'<h2>Where the lift comes from</h2><p class="note">{note}</p>'
        f'<div class="card">{table(head, rows)}</div>\n'
    )


def _parts(entry: Mapping[str, Any], ranker: str | None) -> list[Mapping[str, Any]]:
    """Over the baseline, over the ranker where that is another arm, by support, by learning."""
    over = [] if ranker is None else [entry.get("lift_over", {}).get(ranker, {})]
    return [entry["lift"], *over, entry.get("support_lift", {}), entry["rl_lift"]]


_STYLES = {"holds": "yes", "moved": "no"}  # what was not tested is neither


def _guardrails(gate: Mapping[str, Any]) -> str:
    found = gate.get("guardrails", [])
    if not found:
        return ""
    return f'<h2>Guardrails</h2><div class="card boxes">{"".join(_boxes(found))}</div>\n'


def _boxes(guardrails: list[Mapping[str, Any]]) -> Iterator[str]:
    for each in guardrails:
        needed = each.get("sessions_needed")
        more = f", would take {needed:,}" if needed else ""
        status = "not measured here" if each["status"] == "absent" else str(each["status"])
        yield (
            f'<div class="box {_STYLES.get(each["status"], "untested")}">'
            f"<b>{escape(str(each['metric']))}</b> {escape(status)}"
            f"<small>{escape(str(each['environment']))}, tolerance "
            f"{percent(each['tolerance']).lstrip('+')}, {each['num_sessions']:,} sessions{more}"
            "</small></div>"
        )
