"""The shape of `report.json`, checked when it is written and when it is read.

A schema is a plain value: a type, `{key: schema}` for an object that must have these keys (others
are let through, so that a reader of today reads a report of tomorrow), `[schema]` for a list,
`MapOf(schema)` for an object with free keys, `NotRequired(schema)` for a key that may be left out,
`Nullable(schema)`, `OneOf(words)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recomind.errors import SchemaError, did_you_mean

REPORT_FORMAT_VERSION = 1
KINDS = ("simulator", "world", "holdout_simulator", "logs")


@dataclass(frozen=True)
class MapOf:
    """An object with any keys, whose values follow `value`."""

    value: Any


@dataclass(frozen=True)
class NotRequired:
    """`value`, or no such key."""

    value: Any


@dataclass(frozen=True)
class Nullable:
    """`value` or null."""

    value: Any


@dataclass(frozen=True)
class OneOf:
    """One of some words."""

    words: tuple[str, ...]


_NUMBER = Nullable(float)
_MEASURE = {"mean": _NUMBER, "standard_error": _NUMBER, "n": int}
_LIFT = {"value": _NUMBER, "low": _NUMBER, "high": _NUMBER, "n": int, "method": str}
_STRIP = {  # a session step by step
    "reward": float,
    "left": bool,
    "steps": [{"item": int, "kind": Nullable(int), "reward": float, "dwell_s": float}],
}
_ENVIRONMENT = {
    "name": str,
    "kind": OneOf(KINDS),
    "num_sessions": int,
    "arms": MapOf(MapOf(_MEASURE)),
    "lift": MapOf(_LIFT),
    "lift_over": NotRequired(MapOf(MapOf(_LIFT))),  # by baseline, where there are further ones
    "rl_lift": NotRequired(MapOf(_LIFT)),  # the policy over the ranker inside its support
    "chance_lift": NotRequired(MapOf(_LIFT)),  # the policy over `random`
    "guardrail_lift": NotRequired(MapOf(_LIFT)),  # over the sessions that were added for them
    "support_lift": NotRequired(MapOf(_LIFT)),  # that ranker over the baseline
    "seed_lift": NotRequired(MapOf(MapOf(_LIFT))),  # by seed of training, where there are several
    "over_seeds": NotRequired(MapOf(_LIFT)),  # their mean
    "segments": NotRequired(
        [{"name": str, "num_sessions": int, "lift": _LIFT, "p_fall": NotRequired(_NUMBER)}]
    ),
    "survival": MapOf([float]),
    "outside_share": NotRequired(MapOf(float)),  # by arm: steps where the logs have hardly been
    "strips": NotRequired([{"which": OneOf(("best", "worst")), "arms": MapOf(_STRIP)}]),
}
_GATE = {
    "released": bool,
    "reasons": [str],
    "policy_arm": NotRequired(str),
    "baseline_arm": NotRequired(str),
    "policy_identity": NotRequired(Nullable(str)),
    "guardrails": NotRequired([dict]),
    "warnings": NotRequired([str]),
}
_DATA = {
    **dict.fromkeys(("num_events", "num_sessions", "num_users"), int),
    "first_day": Nullable(str),
    "last_day": Nullable(str),
}
_POOL = dict.fromkeys(
    ("num_items", "num_candidates", "num_nearest", "num_fresh", "num_generated"), int
)
_LEARNING = {
    "env_steps": int,
    "round": int,
    "simulator_return": _NUMBER,
    "world_return": _NUMBER,
}
_CALIBRATION = {"bins": [{"predicted": float, "observed": float, "n": int}], "ece": float}
REPORT_SCHEMA: dict[str, Any] = {
    "format_version": int,
    "seed": int,
    "arms": [str],
    "environments": [_ENVIRONMENT],
    "step0_parity": Nullable(
        {"max_rank_difference": int, "max_score_difference": float, "num_states": int}
    ),
    "gate": _GATE,
    "learning_curve": [_LEARNING],
    "calibration": MapOf(_CALIBRATION),
    "ranker": dict,
    "fidelity": dict,
    "data": NotRequired(_DATA),
    "pool": NotRequired(_POOL),
}


def validate_report(report: object) -> dict[str, Any]:
    """`report` itself, checked.

    Raises:
        SchemaError: a key is absent, a value is of another type or not finite, an arm is named
            that does not exist, or the format version is another.
    """
    if not isinstance(report, dict):
        raise SchemaError("a report is an object", got=type(report).__name__, expected="object")
    version = report.get("format_version")
    if version != REPORT_FORMAT_VERSION:
        raise SchemaError(
            "report of another format version",
            got=version,
            expected=REPORT_FORMAT_VERSION,
            mend="run the evaluation again with this version",
        )
    for where, problem in _problems(report, REPORT_SCHEMA, "report"):
        raise SchemaError(f"{where} {problem}", mend="see docs/formats.md")
    _check_arms(report)
    return report


def _problems(value: Any, schema: Any, where: str) -> Iterator[tuple[str, str]]:
    match schema:
        case Nullable(value=inner):
            if value is not None:
                yield from _problems(value, inner, where)
        case OneOf(words=words):
            if value not in words:
                yield where, f"is {value!r}: {did_you_mean(str(value), words)}"
        case MapOf(value=inner):
            yield from _object_problems(value, dict.fromkeys(_keys(value), inner), where)
        case dict():
            yield from _object_problems(value, schema, where)
        case [inner]:
            yield from _list_problems(value, inner, where)
        case _:
            yield from _plain_problems(value, schema, where)


def _object_problems(value: Any, schema: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        yield where, f"is {type(value).__name__}, not an object"
        return
    for key, inner in schema.items():
        required = not isinstance(inner, NotRequired)
        if key in value:
            yield from _problems(value[key], inner if required else inner.value, f"{where}.{key}")
        elif required:
            yield where, f"has no {key!r}"


def _list_problems(value: Any, inner: Any, where: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, list):
        yield where, f"is {type(value).__name__}, not a list"
        return
    for index, item in enumerate(value):
        yield from _problems(item, inner, f"{where}[{index}]")


def _plain_problems(value: Any, kind: type, where: str) -> Iterator[tuple[str, str]]:
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        yield where, f"is {type(value).__name__}, not {kind.__name__}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield where, f"is {value}, which is not a finite number"
    elif isinstance(value, dict):
        yield from _free_problems(value, where)


def _free_problems(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Anything that JSON can hold; numbers must be finite at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _free_problems(item, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _free_problems(item, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield where, f"is {value}, which is not a finite number"
    elif not isinstance(value, str | int | float | None):
        yield where, f"is {type(value).__name__}, which JSON cannot hold"


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else []


def _check_arms(report: dict[str, Any]) -> None:
    for environment in report["environments"]:
        unknown = sorted(set(environment["arms"]) - set(report["arms"]))
        if unknown:
            raise SchemaError(
                f"arms of environment {environment['name']}", got=unknown, expected=report["arms"]
            )
