"""The log in the order of time: ids become rows, repeats go, and contexts have running rates.

A span of time needs of what came before it one thing, `Totals`; so spans are worked on one after
another, or, where their totals are counted first, all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import polars as pl

from recomind.data.ids import IdMap
from recomind.data.sources.table.census import HOUR_MS, bounds_of
from recomind.data.sources.table.engine import Engine
from recomind.data.sources.table.known import Known
from recomind.data.sources.table.log import RawLog, without_repeats
from recomind.data.sources.table.rates import Totals, with_surprise
from recomind.data.sources.table.spill import Part, Span, read, spans

_ID_OF = {"session": "session_id", "timeline": "history_id"}
Call = tuple[str, Sequence[Part], Span]  # name of the result, what it is read from, which times


def sweep(raw: RawLog, known: Known, engine: Engine) -> tuple[list[Part], int]:
    """Parts by spans of time, each sorted by user, time and place in the log; and their events."""
    hours = bounds_of(raw.census.counts("hour"), known.source.partition_events)
    times = spans([hour * HOUR_MS for hour in hours])
    calls = [(f"swept-{n}", raw.parts, span) for n, span in enumerate(times)]
    work = _at_once if engine.at_once else _in_turn
    found = list(work(known, calls, engine))
    known.spill.drop(raw.parts)
    return [part for part, _ in found], sum(num for _, num in found)


def _nothing(known: Known) -> Totals:
    sizes = {name: len(known.words[f"context.{name}"]) for name in known.plan.contexts}
    return Totals.none(known.rates, known.plan, sizes)


def _in_turn(known: Known, calls: Sequence[Call], engine: Engine) -> Iterator[tuple[Part, int]]:
    before = _nothing(known)
    for name, parts, span in calls:
        events = _events(known, parts, span)
        yield _kept(known, name, events, before)
        before = before.plus(events)


def _at_once(known: Known, calls: Sequence[Call], engine: Engine) -> Iterator[tuple[Part, int]]:
    own = engine.map(totals, known, [(parts, span) for _, parts, span in calls[:-1]])
    earlier = accumulate(own, initial=_nothing(known))
    return engine.map(
        swept, known, [(*call, before) for call, before in zip(calls, earlier, strict=True)]
    )


def totals(known: Known, parts: Sequence[Part], span: Span) -> Totals:
    """The totals of one span."""
    return _nothing(known).plus(_events(known, parts, span))


def swept(
    known: Known, name: str, parts: Sequence[Part], span: Span, before: Totals
) -> tuple[Part, int]:
    """One span, as `sweep` says, and how many events it has."""
    return _kept(known, name, _events(known, parts, span), before)


def _kept(known: Known, name: str, events: pl.DataFrame, before: Totals) -> tuple[Part, int]:
    events = with_surprise(events, known.rates, known.plan, before)
    return known.spill.keep(name, events.sort("user_id", maintain_order=True)), events.height


def _events(known: Known, parts: Sequence[Part], span: Span) -> pl.DataFrame:
    events = read(parts, "time_ms", span).drop("_file")
    if not events["time_ms"].is_sorted():
        events = events.sort("time_ms", maintain_order=True)
    return without_repeats(_with_rows(known, events), known.source.log)


def _with_rows(known: Known, events: pl.DataFrame) -> pl.DataFrame:
    """Ids as rows, and codes of the contexts that have rates."""
    events = events.join(known.users, on="user", how="left", maintain_order="left")
    columns = [pl.Series("item_id", known.items.rows(events["item"]))]
    for name, words in known.words.items():
        short = name.removeprefix("context.")
        columns.append(pl.Series(_ID_OF.get(name, f"code.{short}"), _rows(words, events[name])))
    events = events.with_columns(columns).drop("item", "timeline", strict=False)
    return events if "session" in events.columns else events.drop("user")


def _rows(words: IdMap, values: pl.Series) -> pl.Series:
    return pl.Series(words.rows(values.cast(pl.String).fill_null("")))
