"""From a company's raw columns to user features, as `data=table` made them in training.

A request may name a column as the log has it, in place of the features that were made of it:

    {"device": "car"}                device_car 1, device_phone 0, ...; another word: all of them 0
    {"age": null}                    age 41.2 and age_missing 1: what stood for a gap in training
    "time": "2026-01-31T18:30:00Z"   hour_sin and hour_cos, on the clocks of the log's zone

Features are named as before where a caller has them already.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from recomind.data.times import DAY_MS, EARLIEST_MS, LATEST_MS
from recomind.errors import ArtifactError, SchemaError

CLOCK: tuple[str, ...] = ("hour_sin", "hour_cos")
TIME = "time"  # the request's field
TIME_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": EARLIEST_MS, "maximum": LATEST_MS - 1},
        {"type": "string", "format": "date-time"},
    ],
    "description": "milliseconds since 1970, or ISO 8601; without a zone on the log's clocks",
}
TIME_EXPECTED = "milliseconds since 1970, or text such as 2026-01-31T18:30:00+02:00"


@dataclass(kw_only=True, slots=True)
class FeatureEncoding:
    """What was made of the raw columns; empty where features are all that there is."""

    categories: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Column -> value -> its 0/1 feature; a value that was rare in training has none."""
    gaps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Number -> `fill`, what stands for a gap, and `missing`, the feature that is 1 there."""
    clock: str = ""  # zone of `hour_sin` and `hour_cos`; empty where there are none

    @classmethod
    def of(
        cls,
        words: Mapping[str, Iterable[str]],
        fills: Mapping[str, float],
        clock: str,
        features: Collection[str],
    ) -> FeatureEncoding:
        """What a log's preparation made.

        Args:
            words: `<kind>.<column>` -> its values that have a feature each.
            fills: `<kind>.<column>` of a number with gaps -> what stands for one.
            clock: zone of the time of day; empty where it is no feature.
            features: the names of all user features. A column of a feature's name, or of the name
                of another column, cannot be told from it, and is left out.
        """
        columns = [name.partition(".")[2] for name in words]
        told = {n for n in columns if columns.count(n) == 1 and n not in features}
        return cls(
            categories={
                column: {word: f"{column}_{word}" for word in words[name]}
                for name, column in zip(words, columns, strict=True)
                if column in told
            },
            gaps={
                column: {"fill": float(fill), "missing": f"{column}_missing"}
                for name, fill in fills.items()
                if f"{(column := name.partition('.')[2])}_missing" in features
            },
            clock=clock,
        )

    @classmethod
    def from_json(cls, kept: Any) -> FeatureEncoding:
        """Read what `to_json` gave.

        Raises:
            ArtifactError: it is something else.
        """
        try:
            categories = {n: dict(each) for n, each in dict(kept["categories"]).items()}
            gaps = {
                name: {"fill": float(gap["fill"]), "missing": str(gap["missing"])}
                for name, gap in dict(kept["gaps"]).items()
            }
            clock = str(kept["clock"])
            ZoneInfo(clock or "UTC")
        except (TypeError, AttributeError, KeyError, ValueError, OSError) as error:
            raise ArtifactError("not an encoding of raw columns", got=repr(error)) from None
        return cls(categories=categories, gaps=gaps, clock=clock)

    def to_json(self) -> dict[str, Any]:
        """The fields, as they stand in manifests and in `model.json`."""
        return asdict(self)

    def encode(self, raw: Mapping[str, Any], time: object = None) -> dict[str, Any]:
        """Features by name; what is none of the raw columns stays as it is.

        Args:
            raw: raw columns and features by name.
            time: when the item is chosen, in milliseconds since 1970 or as ISO 8601; None where
                the features of the time of day are in `raw`.

        Raises:
            SchemaError: a column that is no category, a time that is none, or a feature that is
                given as itself and as its raw column too.
        """
        found: dict[str, Any] = {}
        made: dict[str, Any] = {}
        for name, value in raw.items():
            if name in self.categories:
                word = _word(name, value)
                made |= {f: float(w == word) for w, f in self.categories[name].items()}
            else:
                found[name] = value
        if time is not None:
            at = ms_of_day(time, self.clock or "UTC")
            made |= _clock(at) if self.clock else {}
        for name in made:
            if name in found:
                raise SchemaError(f"user feature {name!r} is given raw and as a feature too")
        for name in [n for n in self.gaps if n in found]:
            gap, is_gap = self.gaps[name], found[name] is None
            found[name] = gap["fill"] if is_gap else found[name]
            found.setdefault(gap["missing"], float(is_gap))
        return found | made

    def schema(self, features: Sequence[str], number: Mapping[str, Any]) -> dict[str, Any]:
        """JSON Schema of `user_features`: each feature, or the raw column in its place.

        Args:
            features: the names of all features.
            number: schema of one.
        """
        word = {"type": ["string", "number", "boolean", "null"]}
        derived = {f for values in self.categories.values() for f in values.values()}
        derived |= {gap["missing"] for gap in self.gaps.values()}
        derived |= set(CLOCK) if self.clock else set()
        known = {
            name: word | {"examples": list(values)[:3]} for name, values in self.categories.items()
        }
        numbers = {
            name: {"anyOf": [dict(number), {"type": "null"}]} if name in self.gaps else dict(number)
            for name in features
        }
        return {
            "type": "object",
            "required": [name for name in features if name not in derived],
            "properties": known | numbers,
            "allOf": [
                {"oneOf": [_only([name], values.values()), _only(values.values(), [name])]}
                for name, values in self.categories.items()
                if values
            ],
        }

    def time_rule(self) -> dict[str, Any]:
        """JSON Schema of a request that gives `time`, or the features of it, but not both."""
        if not self.clock:
            return {}
        raw = {"properties": {"user_features": {"properties": dict.fromkeys(CLOCK, False)}}}
        made = {"properties": {"user_features": {"required": list(CLOCK)}, TIME: False}}
        return {"anyOf": [{"required": [TIME]} | raw, made]}

    def names_for(self, features: Iterable[str]) -> list[str]:
        """What a request may name in place of `features`: raw columns, each once."""
        column_of: dict[str, str] = {}
        for column, values in self.categories.items():
            column_of |= dict.fromkeys(values.values(), column)
        column_of |= {gap["missing"]: name for name, gap in self.gaps.items()}
        if self.clock:
            column_of |= dict.fromkeys(CLOCK, TIME)
        return list(dict.fromkeys(column_of.get(name, name) for name in features))


def ms_of_day(time: object, zone: str) -> float:
    """Milliseconds of the day on the clocks of `zone`, in which times without a zone are.

    >>> ms_of_day("2026-01-31T18:30:00", "Europe/Berlin") / 3_600_000
    18.5
    >>> ms_of_day("2026-01-31T18:30:00Z", "Europe/Berlin") / 3_600_000
    19.5

    Raises:
        SchemaError: `time` is none.
    """
    moment = moment_of(time, zone)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    return (moment.replace(tzinfo=None) - midnight) / datetime.timedelta(milliseconds=1)


def moment_of(time: object, zone: str) -> datetime.datetime:
    """Milliseconds since 1970 or ISO 8601 text as a moment in `zone`, as text without one is.

    Raises:
        SchemaError: `time` is none.
    """
    try:
        moment = _moment(time, zone)
    except (ValueError, OverflowError):
        raise SchemaError(TIME, got=repr(time)[:50], expected=TIME_EXPECTED) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))


def _moment(time: object, zone: str) -> datetime.datetime:
    if isinstance(time, str):
        moment = datetime.datetime.fromisoformat(time)
        return moment if moment.tzinfo is None else moment.astimezone(ZoneInfo(zone))
    if isinstance(time, bool) or not isinstance(time, int | float):
        raise ValueError
    if not EARLIEST_MS <= time < LATEST_MS:
        raise SchemaError(
            TIME,
            got=time,
            expected=TIME_EXPECTED,
            mend="seconds are times 1000" if EARLIEST_MS <= time * 1000 < LATEST_MS else "",
        )
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (epoch + datetime.timedelta(milliseconds=time)).astimezone(ZoneInfo(zone))


def _only(names: Iterable[str], others: Iterable[str]) -> dict[str, Any]:
    return {"required": list(names), "properties": dict.fromkeys(others, False)}


def _clock(ms: float) -> dict[str, float]:
    of_day = ms / DAY_MS * (2 * math.pi)
    return dict(zip(CLOCK, (math.sin(of_day), math.cos(of_day)), strict=True))


def _word(name: str, value: object) -> str | None:
    """A category's value as text, as a column of any type becomes text in a log."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON knows numbers only
    if isinstance(value, int | float):
        return str(value)
    raise SchemaError(
        f"user_features.{name}", got=repr(value)[:50], expected="text, a number, true, false, null"
    )
