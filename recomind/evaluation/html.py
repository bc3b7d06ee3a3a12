"""`report.html`: one file that a person opens; nothing in it is fetched from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from recomind.evaluation.environment_section import environment_section
from recomind.evaluation.header_section import header_section
from recomind.evaluation.markup import fact, table
from recomind.evaluation.page_style import STYLE
from recomind.evaluation.presentation import figure, verdict
from recomind.evaluation.rounds_section import rounds_section
from recomind.evaluation.schema import validate_report
from recomind.evaluation.svg import Series, line_chart, padded
from recomind.evaluation.verdict_section import verdict_section

PAGE = "report.html"
_RETURNS = ("simulator_return", "world_return")

_HOW_TO_READ = (
    (
        "Lift",
        "mean of the policy over mean of the baseline, minus one. Both arms meet the same users "
        "with the same luck, and the interval uses that pairing.",
    ),
    (
        "Many intervals",
        "the target and the guardrails were named before, and all must hold. The other metrics' "
        "intervals are not corrected for their number: of twenty, one misses by luck. Segments "
        "are corrected (Holm).",
    ),
    (
        "Training simulator",
        "the simulated return is never evidence: a policy finds the simulator's mistakes. It is "
        "shown so that you see how far simulator and truth are apart.",
    ),
    (
        "Seeds",
        "an interval covers the luck of the sessions, not that of the training, unless it is said "
        "to be over seeds. A small lift needs several (gate.seeds); the first is what is released.",
    ),
    (
        "Survival",
        "share of users who had not left after so many interactions; what remains at the right "
        "edge was cut by the horizon.",
    ),
    (
        "Calibration",
        "on the dashed line, what was predicted happened as often. Bins hold equal counts; a "
        "policy chooses from the top one, so look there first.",
    ),
    (
        "Step-0 parity",
        "before training the policy must rank exactly as the ranker does: 0 positions apart.",
    ),
)


def write_html(
    folder: Path, report: Mapping[str, Any], about: Mapping[str, str] | None = None
) -> Path:
    """Write `report.html` into `folder` and return its path; equal arguments, equal bytes."""
    path = Path(folder) / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_html(report, about), encoding="utf-8")
    return path


def render_html(report: Mapping[str, Any], about: Mapping[str, str] | None = None) -> str:
    """The page.

    Args:
        report: as in `report.json`.
        about: what the head says beside it, see `header_section`.

    Raises:
        SchemaError: `report` is not a report.
    """
    report, about = validate_report(dict(report)), about or {}
    sections = [
        header_section(report, about),
        verdict_section(report),
        *(environment_section(entry, report) for entry in _in_order(report)),
        rounds_section(report.get("rounds", {})),
        _learning(report["learning_curve"]),
        _calibration(report["calibration"]),
        _quality(
            "Ranker",
            report["ranker"],
            "A better AUC is not yet a better policy: only the lift above says so.",
        ),
        _quality("Fidelity of the simulator", report["fidelity"], ""),
        _parity(report["step0_parity"]),
        _how_to_read(),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{verdict(report['gate'])}: {escape(about.get('run', 'recomind'))} report</title>"
        f'<link rel="icon" href="data:,"><style>{STYLE}</style></head>\n'
        f"<body><main>\n{''.join(sections)}</main></body>\n</html>\n"
    )


def _in_order(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What decided first, and the simulator that the policy trained in last."""
    decided = report["gate"].get("decided_by", [])
    return sorted(
        report["environments"],
        key=lambda entry: (entry["name"] not in decided, entry["kind"] == "simulator"),
    )


def _learning(curve: Sequence[Mapping[str, Any]]) -> str:
    if not curve:
        return ""
    # One scale for both: the gap between them is what there is to see.
    returns = [p[key] for p in curve for key in _RETURNS if p[key] is not None]
    plots = []
    for key, title in (
        ("simulator_return", "In its simulator (never evidence)"),
        ("world_return", "In an environment it never trained in"),
    ):
        points = [(p["env_steps"], p[key]) for p in curve if p[key] is not None]
        if not points:  # a policy that learned from logs has no return in a simulator
            continue
        style = "arm-2" if key == "simulator_return" else "arm-0"
        line = Series(name=title, points=points, style=style, dots=len(points) < 40)
        chart = line_chart(
            [line],
            title=title,
            x_label="environment steps",
            y_label="return per session",
            y_range=padded(returns) if returns else None,
        )
        plots.append(f"<div><h3>{title}</h3>{chart}</div>")
    return f'<h2>Learning</h2><div class="card plots">{"".join(plots)}</div>\n' if plots else ""


def _calibration(curves: Mapping[str, Any]) -> str:
    if not curves:
        return ""
    plots = []
    for task in sorted(curves):
        points = [(b["predicted"], b["observed"]) for b in curves[task]["bins"]]
        chart = line_chart(
            [Series(name=task, points=points, style="arm-0", dots=True)],
            title=f"Calibration of {task}",
            x_label="predicted",
            y_label="observed",
            diagonal=True,
            size=(350, 260),
        )
        error = figure(curves[task]["ece"])
        plots.append(f"<div><h3>{escape(task)}, expected error {error}</h3>{chart}</div>")
    return f'<h2>Calibration of the ranker</h2><div class="card plots">{"".join(plots)}</div>\n'


def _quality(title: str, facts: Mapping[str, Any], note: str) -> str:
    if not facts:
        return ""
    nested = {key: value for key, value in facts.items() if isinstance(value, dict)}
    tables = []
    if len(nested) < len(facts):
        rows = [(k, [fact(v)], "") for k, v in facts.items() if k not in nested]
        tables.append(table(["", "value"], rows))
    if nested:
        columns = list(dict.fromkeys(key for value in nested.values() for key in value))
        rows = [
            (key, [fact(value.get(column)) for column in columns], "")
            for key, value in nested.items()
        ]
        tables.append(table(["", *columns], rows))
    lead = f'<p class="note">{note}</p>' if note else ""
    return f'<h2>{title}</h2>{lead}<div class="card">{"".join(tables)}</div>\n'


def _parity(parity: Mapping[str, Any] | None) -> str:
    if parity is None:
        said = '<p class="empty">Not measured.</p>'
    else:
        said = (
            f"<p>Over {parity['num_states']:,} states the untrained policy and the ranker are at "
            f"most <b>{parity['max_rank_difference']} positions</b> apart, their scores "
            f"{figure(parity['max_score_difference'])}.</p>"
        )
    return f'<h2>Step-0 parity</h2><div class="card">{said}</div>\n'


def _how_to_read() -> str:
    items = "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in _HOW_TO_READ)
    return f'<h2>How to read this</h2><div class="card"><dl>{items}</dl></div>\n'
