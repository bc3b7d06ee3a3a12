"""The part of the page that says which round's policy was kept, and by which figures."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from recomind.evaluation.markup import table
from recomind.evaluation.presentation import figure, interval


def rounds_section(rounds: Mapping[str, Any]) -> str:
    """A row a round; nothing where no round was chosen."""
    judged = rounds.get("judged") or []
    if not judged:
        return ""
    metric = judged[0]["metric"]
    rows = [
        (
            f"round {each['round'] + 1}" + (" (kept)" if each["round"] == rounds["kept"] else ""),
            [
                figure(each["value"]),
                escape(interval(each["lift"])),
                figure(each["refit_value"]),
                escape(interval(each["refit_lift"])),
            ],
            "target" if each["round"] == rounds["kept"] else "",
        )
        for each in judged
    ]
    return (
        "<h2>Rounds</h2>"
        f'<p class="note">The round is chosen on {judged[0]["num_sessions"]:,} sessions of the '
        f"{escape(judged[0]['environment'])} that are in no other figure of this page. "
        f"The first lift is over the {escape(judged[0]['baseline'])}, the second over the ranker "
        "that was refit on the same logs as the round's policy.</p>"
        f'<div class="card">{table([metric, "mean", "lift", "refit ranker", "lift over it"], rows)}'
        "</div>\n"
    )
