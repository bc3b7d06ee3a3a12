"""Requests in JSON, checked field by field, and the states that they describe.

    {"user_id": 17, "user_features": {"age": 0.3, "tenure": -1.2}, "step": 1, "gap_s": 13.0,
     "history": [{"item_id": 4, "feedback": {"watch_10s": true}, "dwell_s": 12.5, "gap_s": 90.0}],
     "item_ids": [8, 15, 16, 23]}

`history` is oldest first, `step` counts its last events that belong to the present session. Times
are seconds: an event's `dwell_s` is how long it lasted, its `gap_s` how long after the start of
the event before it it began, the request's `gap_s` how long ago the last event began. In place of
gaps, events and request may each give the `time` when they began, of which the gaps are made. What
is left out is 0, which for a gap means unknown; without a history there is no gap.

A request gives its candidates in `item_ids`, or leaves them to the pool and says in `num` how many
it wants; with both it gets the best `num` of its own. A body holds one request or a list of them.

Where the scorer's artifact holds a map of ids, items go by the company's own ids, text or integers.
One that the map lacks, such as an item of today, is no reason to answer nothing: as a candidate it
is left out, in a history it counts as padding. Where the artifact holds a scaling, features are raw
(`recomind.serving.company`), and columns of the log may stand for the features that were made of
them, `time` for the time of day (`recomind.data.encoding`). A user's id may always be text.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from recomind.data.encoding import CLOCK, TIME, TIME_EXPECTED, moment_of
from recomind.errors import SchemaError, did_you_mean
from recomind.export import PolicyScorer
from recomind.serving.company import CompanyNames
from recomind.serving.config import ServingConfig
from recomind.types import SessionState

_FIELDS = (
    "user_id",
    "user_features",
    "history",
    "step",
    "gap_s",
    "time",
    "item_ids",
    "num",
    "request_id",
    "session_id",
)
_EVENT_FIELDS = ("item_id", "feedback", "dwell_s", "gap_s", "time")
MAX_INT = 2**63 - 1
UNKNOWN = -1  # stands for the row of an item that the map of ids lacks
MAX_NAME = 200  # characters of a request's or session's id
MAX_FLOAT = 3e38  # largest float32 accepted
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(kw_only=True, slots=True)
class Event:
    """One event of a history."""

    item_id: int  # a row; `UNKNOWN` where the catalogue has none
    feedback: list[bool]  # [H]
    dwell_s: float  # seconds
    gap_s: float = 0.0  # seconds since the start of the event before; 0.0 where unknown


@dataclass(kw_only=True, slots=True)
class RankRequest:
    """One user who waits for items."""

    user_id: int
    user_features: list[float]  # [U], standardised
    history: list[Event] = field(default_factory=list)  # oldest first, at most L
    step: int = 0
    gap_s: float = 0.0  # seconds since the start of the latest event; 0.0 where unknown
    item_ids: list[int] | None = None  # candidates; from the pool where None
    num: int | None = None  # items wanted; all candidates where None
    request_id: str = ""  # the caller's, for the log
    session_id: str = ""  # the caller's, for the log


@dataclass(kw_only=True, slots=True)
class RequestSchema:
    """What a request to one scorer may hold."""

    feature_names: tuple[str, ...]  # U
    tasks: tuple[str, ...]  # H
    history_length: int  # L; older events are left out
    num_items: int  # N
    has_pool: bool  # False: every request must bring its candidates
    max_candidates: int
    max_batch_size: int
    names: CompanyNames = field(default_factory=CompanyNames)

    @classmethod
    def of(
        cls,
        scorer: PolicyScorer,
        config: ServingConfig,
        *,
        has_pool: bool,
        names: CompanyNames | None = None,
    ) -> RequestSchema:
        """The schema of requests to `scorer`."""
        return cls(
            names=names or CompanyNames(),
            feature_names=scorer.user_feature_names,
            tasks=scorer.feedback_tasks,
            history_length=scorer.history_length,
            num_items=scorer.catalogue.num_items,
            has_pool=has_pool,
            max_candidates=config.max_candidates,
            max_batch_size=config.max_batch_size,
        )

    def parse_body(self, body: bytes) -> tuple[list[RankRequest], bool]:
        """The requests of a body, and whether it was a list.

        Raises:
            SchemaError: it is not JSON, or a request of it is not one.
        """
        payload = decode_json(body)
        if not isinstance(payload, list):
            return [self.parse(payload)], False
        if not 1 <= len(payload) <= self.max_batch_size:
            raise SchemaError(
                "requests of one body", got=len(payload), expected=f"1 to {self.max_batch_size}"
            )
        return [self.parse(entry) for entry in payload], True

    def parse(self, payload: object) -> RankRequest:
        """One request from decoded JSON.

        Raises:
            SchemaError: a field is absent, unknown, or not what it must be.
        """
        fields = _object(payload, "a request", _FIELDS)
        events = self._events(fields.get("history", []))
        request = RankRequest(
            user_id=self._user(fields.get("user_id")),
            user_features=self._features(fields.get("user_features", {}), fields.get("time")),
            history=self._history(events),
            step=_integer(fields.get("step", 0), "step", 0, MAX_INT),
            gap_s=self._gap(fields, events[-1] if events else {}, "gap_s"),
            item_ids=self._item_ids(fields.get("item_ids")),
            request_id=_name(fields.get("request_id", ""), "request_id"),
            session_id=_name(fields.get("session_id", ""), "session_id"),
        )
        if fields.get("num") is not None:
            request.num = _integer(fields["num"], "num", 1, self.max_candidates)
        if request.item_ids is None and (request.num is None or not self.has_pool):
            raise SchemaError(
                "a request without candidates",
                expected="item_ids" + (", or num to take them from the pool" * self.has_pool),
                mend="" if self.has_pool else "start the service with an index to let it choose",
            )
        return request

    def _features(self, value: object, time: object) -> list[float]:
        """[U]; raw columns, if any, become features, and those are standardised."""
        encoding = self.names.encoding
        if isinstance(value, list):
            if len(value) != len(self.feature_names):
                raise SchemaError(
                    "user_features", got=f"{len(value)} numbers", expected=list(self.feature_names)
                )
            value, time = dict(zip(self.feature_names, value, strict=True)), None
        known = (*self.feature_names, *encoding.categories)
        given = encoding.encode(_object(value, "user_features", known), time)
        absent = [name for name in self.feature_names if name not in given]
        if absent:
            raise _absent(encoding.names_for(absent))
        return [
            self.names.standardised(name, _number(given[name], f"user_features.{name}"))
            for name in self.feature_names
        ]

    def _user(self, value: object) -> int:
        known = self.names.users
        if (isinstance(value, str) and value) or (known and type(value) is int):
            return self.names.user_row(_name(str(value), "user_id"))
        return _integer(value, "user_id", 0, MAX_INT, f"text, or an integer in [0, {MAX_INT}]")

    def _items(self, values: Sequence[object]) -> list[int]:
        """The rows of items, which are named by row or, where there is a map, by their own ids."""
        if self.names.items is None:
            return [_integer(value, "item_id", 0, self.num_items - 1) for value in values]
        for value in values:
            if type(value) not in (str, int):
                raise SchemaError("item_id", got=repr(value)[:50], expected="an item's id")
        rows = self.names.items.rows_of([str(value) for value in values])
        return [UNKNOWN if row is None else row for row in rows]

    def _events(self, value: object) -> list[Mapping[str, Any]]:
        """The latest L, and the one before them, whose time the first of them may need."""
        events = _list(value, "history")[-self.history_length - 1 :]
        return [_object(event, "an event", _EVENT_FIELDS) for event in events]

    def _history(self, events: Sequence[Mapping[str, Any]]) -> list[Event]:
        before = [{}, *events][-self.history_length - 1 : -1] if events else []
        latest = events[-self.history_length :]
        rows = self._items([event.get("item_id") for event in latest])
        return [self._event(*each) for each in zip(latest, before, rows, strict=True)]

    def _gap(self, now: Mapping[str, Any], before: Mapping[str, Any], what: str) -> float:
        """Seconds since the event before, as given or between both times; 0.0 where unknown."""
        if "gap_s" in now or TIME not in now or TIME not in before:
            return _seconds(now.get("gap_s", 0.0), what)
        zone = self.names.encoding.clock or "UTC"
        began, ended = (moment_of(each[TIME], zone) for each in (before, now))
        # In UTC: Python subtracts moments of one zone by its clocks, which are set back and forth.
        gap = ended.astimezone(datetime.UTC) - began.astimezone(datetime.UTC)
        if gap < datetime.timedelta(0):
            raise SchemaError(
                "times that go back",
                got=f"{before[TIME]!r}, then {now[TIME]!r}"[:80],
                expected="a history with the oldest event first, before the request's own time",
            )
        return gap.total_seconds()

    def _event(self, event: Mapping[str, Any], before: Mapping[str, Any], row: int) -> Event:
        feedback = _object(event.get("feedback", {}), "feedback", self.tasks)
        for task, answer in feedback.items():
            if not isinstance(answer, bool):
                raise SchemaError(f"feedback.{task}", got=answer, expected="true or false")
        return Event(
            item_id=row,
            feedback=[feedback.get(task, False) for task in self.tasks],
            dwell_s=_seconds(event.get("dwell_s", 0.0), "dwell_s"),
            gap_s=self._gap(event, before, "an event's gap_s"),
        )

    def _item_ids(self, value: object) -> list[int] | None:
        if value is None:
            return None
        items = _list(value, "item_ids")
        if not 1 <= len(items) <= self.max_candidates:
            raise SchemaError(
                "item_ids", got=f"{len(items)} ids", expected=f"1 to {self.max_candidates}"
            )
        ids = [row for row in self._items(items) if row != UNKNOWN]
        if not ids:
            raise SchemaError(
                "item_ids",
                got=f"{len(items)} ids, such as {items[0]!r}"[:80],
                expected="at least one that the catalogue has",
            )
        if len(set(ids)) < len(ids):
            twice = next(row for row in ids if ids.count(row) > 1)
            named = self.names.item_names([twice])[0]
            raise SchemaError("item_ids names an item twice", got=repr(named)[:50])
        return ids


def states_of(requests: Sequence[RankRequest], schema: RequestSchema) -> SessionState:
    """The states [B] that the requests describe; histories are padded on the left."""
    batch, length = len(requests), schema.history_length
    padding = Event(item_id=0, feedback=[False] * len(schema.tasks), dwell_s=0.0)
    events = [
        event
        for request in requests
        for event in (*[padding] * (length - len(request.history)), *request.history)
    ]  # one tensor of a list is many times faster than a tensor an event
    feedback = torch.tensor([event.feedback for event in events], dtype=torch.bool)
    count = torch.tensor([len(r.history) for r in requests])
    item_id = torch.tensor([event.item_id for event in events]).reshape(batch, length)
    features = torch.tensor([r.user_features for r in requests], dtype=torch.float32)
    return SessionState(
        user_id=torch.tensor([r.user_id for r in requests], dtype=torch.int64),
        user_features=features.reshape(batch, len(schema.feature_names)),
        history_item_id=item_id.clamp(min=0),
        history_feedback=feedback.reshape(batch, length, len(schema.tasks)),
        history_dwell_s=torch.tensor([event.dwell_s for event in events]).reshape(batch, length),
        history_gap_s=torch.tensor([event.gap_s for event in events]).reshape(batch, length),
        history_mask=(torch.arange(length, 0, -1) <= count[:, None]) & (item_id != UNKNOWN),
        gap_s=torch.tensor([r.gap_s for r in requests], dtype=torch.float32) * (count > 0),
        step=torch.tensor([r.step for r in requests], dtype=torch.int64),
        batch_size=[batch],
    )


def decode_json(body: bytes) -> Any:
    """The value of UTF-8 JSON, read strictly.

    Raises:
        SchemaError: it is none, names a key twice, or holds text that is no Unicode.
    """
    try:
        text = body.decode()
        value = json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_object_of_pairs
        )
    except (ValueError, RecursionError) as error:
        raise SchemaError("the body is not JSON", got=str(error) or "nested too deep") from None
    # An escape may name half of a pair of UTF-16, which no answer and no log could repeat.
    if _SURROGATE.search(text) and not _encodes(value):
        raise SchemaError("the body is not JSON", got="a lone surrogate", expected="Unicode text")
    return value


def _encodes(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _object_of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _object(value: object, what: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SchemaError(what, got=type(value).__name__, expected="a JSON object")
    for name in value:
        if name not in known:
            raise SchemaError(f"{what}: unknown {name!r}", mend=did_you_mean(name, known))
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise SchemaError(what, got=type(value).__name__, expected="a JSON list")
    return value


def _absent(names: Sequence[str]) -> SchemaError:
    if TIME in names:
        return SchemaError(
            "a request without a time",
            expected=TIME_EXPECTED,
            mend=f"or give {' and '.join(CLOCK)} in user_features",
        )
    return SchemaError("user_features without a value", got=list(names))


def _integer(value: Any, what: str, low: int, high: int, expected: str = "") -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON knows numbers only: 24.0 is the integer 24
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    expected = expected or f"an integer in [{low}, {high}]"
    raise SchemaError(what, got=repr(value)[:50], expected=expected)


def _name(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise SchemaError(what, got=repr(value)[:50], expected=f"text of {MAX_NAME} characters")
    return value


def _number(value: Any, what: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not abs(value) <= MAX_FLOAT:  # a NaN is not
        raise SchemaError(what, got=repr(value)[:50], expected="a finite number")
    return float(value)


def _seconds(value: Any, what: str) -> float:
    seconds = _number(value, what)
    if seconds < 0:
        raise SchemaError(what, got=seconds, expected=">= 0 seconds")
    return seconds
