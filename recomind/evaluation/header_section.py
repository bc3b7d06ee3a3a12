"""The head of the page: which run, when, with what, on how much data, choosing from what."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any


def header_section(report: Mapping[str, Any], about: Mapping[str, str]) -> str:
    """Title and facts.

    Args:
        report: its `data` and `pool` are shown where it has them.
        about: what only the page says, since it differs between equal reports: name of a fact ->
            the fact. `run`, if it is there, is the title.
    """
    facts = {name: said for name, said in about.items() if name != "run"}
    facts |= {"data": _data(report.get("data", {})), "pool": _pool(report.get("pool", {}))}
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(said)}</dd>" for name, said in facts.items() if said
    )
    title = about.get("run", "recomind evaluation report")
    listed = f'<dl class="about">{items}</dl>' if items else ""
    return f"<h1>{escape(title)}, seed {report['seed']}</h1>{listed}"


def _data(data: Mapping[str, Any]) -> str:
    if not data:
        return ""
    days = "without dates"
    if data["first_day"] is not None:
        days = f"{data['first_day']} to {data['last_day']}"
    return (
        f"{data['num_events']:,} logged events in {data['num_sessions']:,} sessions of "
        f"{data['num_users']:,} users, {days}"
    )


def _pool(pool: Mapping[str, Any]) -> str:
    if not pool:
        return ""
    num, items = pool["num_candidates"], pool["num_items"]
    if items <= num:
        return f"all {items:,} items at each decision"
    parts = {
        "nearest": pool["num_nearest"],
        "newest": pool["num_fresh"],
        "generated": pool["num_generated"],
    }
    parts["drawn"] = num - sum(parts.values())
    named = ", ".join(f"{count:,} {name}" for name, count in parts.items() if count)
    return f"{num:,} of {items:,} items at each decision: {named}"
