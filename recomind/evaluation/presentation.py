"""How figures and names are shown, the same on the page and at the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_FIRST = ("watch_10s_per_session", "session_depth", "session_depth_10plus", "reward_per_session")
_LAST = ("coverage", "repeat_share")

KIND_TITLES = {
    "world": "world",
    "holdout_simulator": "hold-out simulator",
    "simulator": "training simulator",
    "logs": "logs",
}
KIND_NOTES = {
    "world": "The truth, or its closest stand-in. The policy never trained in it; it decides.",
    "holdout_simulator": (
        "A simulator that the policy never trained in: of trees alone, fitted to other users or "
        "later days. It decides where there is no world."
    ),
    "simulator": (
        "The policy trained in here and has learned its mistakes too. "
        "The simulated return is never evidence. Where there is no world, a policy that is not "
        "shown better even here is refused."
    ),
    "logs": "Estimated from logged propensities. It informs and does not decide.",
}


def ordered_metrics(names: Iterable[str]) -> list[str]:
    """The target and depth first, coverage and repeats last, the other tasks by name between.

    >>> ordered_metrics(["coverage", "like_per_session", "session_depth"])
    ['session_depth', 'like_per_session', 'coverage']
    """
    known = set(names)
    middle = sorted(known - set(_FIRST) - set(_LAST))
    return [name for name in (*_FIRST, *middle, *_LAST) if name in known]


def figure(value: float | int | None) -> str:
    """Four digits, a dash where there is none.

    >>> figure(12.34567), figure(5.9), figure(0.02), figure(1234567), figure(None)
    ('12.35', '5.900', '0.0200', '1,234,567', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 10_000:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1 else f"{value:#.4g}".rstrip(".")


def percent(value: float | None) -> str:
    """A signed ratio as per cent.

    >>> percent(0.1581), percent(-0.5), percent(0.0)
    ('+15.8 %', '-50.0 %', '0 %')
    """
    if value is None:
        return "-"
    return "0 %" if value == 0 else f"{100 * value:+.1f} %"


def measure(entry: Mapping[str, Any] | None) -> str:
    """Mean and standard error of `{mean, standard_error, n}`.

    >>> measure({"mean": 3.0, "standard_error": 0.25, "n": 9})
    '3.000 ± 0.25'
    """
    if entry is None:
        return "-"
    error = entry["standard_error"]
    return figure(entry["mean"]) + (f" ± {error:.2g}" if error is not None else "")


def interval(lift: Mapping[str, Any]) -> str:
    """A lift with its interval, or what there is of it.

    >>> interval({"value": 0.1, "low": 0.05, "high": 0.15})
    '+10.0 % [+5.0, +15.0]'
    """
    if lift["low"] is None:
        return percent(lift["value"])
    return f"{percent(lift['value'])} [{100 * lift['low']:+.1f}, {100 * lift['high']:+.1f}]"


def verdict(gate: Mapping[str, Any]) -> str:
    """One word and a half."""
    return "Released" if gate["released"] else "Not released"
