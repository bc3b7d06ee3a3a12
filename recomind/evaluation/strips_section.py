"""The part of the page that shows a few sessions as strips of items, policy above baseline."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from recomind.evaluation.presentation import figure

_NUM_COLOURS = 6
_NOTE = (
    "A box is an item, its colour the item's kind; filled boxes earned something. &#10005;: the "
    "user left; &#9656;: the session was cut. The same user with the same luck meets both arms."
)
_TITLES = {
    "best": "Best for the policy",
    "worst": "Worst for the policy",
}


def strips_section(entry: Mapping[str, Any]) -> str:
    """The sessions of an environment; nothing where it has none."""
    found = entry.get("strips", [])
    if not found:
        return ""
    parts = [f'<h3>A few sessions</h3><p class="note">{_NOTE}</p>']
    for which, title in _TITLES.items():
        sessions = [strip for strip in found if strip["which"] == which]
        if sessions:
            parts.append(f"<h4>{title}</h4>" + "".join(map(_session, sessions)))
    return "".join(parts)


def _session(strip: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<div class="strip"><b>{escape(arm)}</b> <small>{figure(float(played["reward"]))} in '
        f"{len(played['steps'])} steps</small><div>{_boxes(played)}</div></div>"
        for arm, played in strip["arms"].items()
    )
    return f'<div class="session">{rows}</div>'


def _boxes(played: Mapping[str, Any]) -> str:
    boxes = "".join(_box(step) for step in played["steps"])
    return boxes + ("<span>&#10005;</span>" if played["left"] else "<span>&#9656;</span>")


def _box(step: Mapping[str, Any]) -> str:
    colour = 0 if step["kind"] is None else int(step["kind"]) % _NUM_COLOURS
    filled = " on" if step["reward"] > 0 else ""
    kind = "" if step["kind"] is None else f", kind {int(step['kind'])}"
    said = f"item {int(step['item'])}{kind}, {step['dwell_s']:.0f} s, reward {step['reward']:.3g}"
    return f'<i class="k{colour}{filled}" title="{escape(said)}"></i>'
