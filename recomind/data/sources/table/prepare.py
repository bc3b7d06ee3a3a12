"""From a log's files to its events: read, sweep in the order of time, cut into sessions, features.

A log of more than `partition_events` rows goes through files, and no step holds more than about
that many rows. What is computed does not depend on it: sums are of integers or of fixed grains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Protocol

import numpy as np
import polars as pl

from recomind.data.encoding import FeatureEncoding
from recomind.data.ids import IdMap
from recomind.data.scaling import Moments, Scaling
from recomind.data.sources.interface import Logs
from recomind.data.sources.table.census import bounds_of
from recomind.data.sources.table.config import (
    EventSettings,
    HistoryTable,
    ItemTable,
    UserTable,
)
from recomind.data.sources.table.engine import GRAIN, Engine, make_engine
from recomind.data.sources.table.history import read_prior
from recomind.data.sources.table.items import (
    ItemContent,
    catalogue_of,
    categories_of,
    dated,
    item_content,
    read_items,
)
from recomind.data.sources.table.known import Known
from recomind.data.sources.table.log import RawLog, read_log
from recomind.data.sources.table.partition import Counts, Learned, cut, featured
from recomind.data.sources.table.profiles import Profiles, read_users
from recomind.data.sources.table.propensities import note_on_propensities
from recomind.data.sources.table.rates import item_statistics, plan_of
from recomind.data.sources.table.sessions import broken
from recomind.data.sources.table.spill import Part, Span, spans
from recomind.data.sources.table.splits import are_held_out, require_each
from recomind.data.sources.table.sweep import sweep
from recomind.data.sources.table.unknown import check_unknown
from recomind.data.sources.table.users import (
    Looks,
    common_codes,
    common_words,
    notes_on_contexts,
)

ITEM_IDS, USER_IDS = "item_ids.parquet", "user_ids.parquet"


class TableSettings(EventSettings, Protocol):
    """What preparing a log needs to know of a source's settings."""

    items: ItemTable
    users: UserTable
    history: HistoryTable
    clock: bool  # the time of day as features
    standardise: bool  # user features, by the training events
    engine: str  # who works on the partitions

    @property
    def support_density(self) -> float:
        """`policy.support_density` where it is left at 0."""
        ...


def prepare(source: TableSettings) -> Logs:
    """Events, catalogue, maps of ids and scalings of the logs that `source` names."""
    engine, zone = make_engine(source.engine), source.log.time_zone
    listed, users = read_items(source.items, zone), read_users(source.users)
    items = listed[0] if listed else None
    raw = read_log(source, items.height if items is not None else 0, _counted(source))
    facts = check_unknown(raw, (items, source.items), (users, source.users))
    item_ids = IdMap.of(_all_ids(items, raw, "item"))
    user_ids = IdMap.of(_all_ids(users, raw, "user"), keep_integers=True)
    known = _known(source, raw, user_ids, users, item_content(items, item_ids, source.items))
    parts, num_events = sweep(raw, known, engine)
    cuts, counts = _cut(known, engine, parts, _people(source, raw, known))
    dense = _dense(source, known, counts)
    looks = _looks(source, known, counts, raw.fills)
    learned = Learned(
        rates_DN={
            task: dense[f"rate_{task}"] for task in source.rates.of if f"rate_{task}" in dense
        },
        looks=looks,
        tasks=tuple(source.tasks),
    )
    frame, scalings = _featured(source, known, learned, engine, cuts, counts)
    train_DN = counts.sums.train_DN
    catalogue, of_items = catalogue_of(dense, known.content, train_DN, source.items.standardise)
    facts = {
        "num_log_rows": raw.census.num_rows,
        "num_repeats_dropped": raw.census.num_rows - num_events,
        "time_unit": raw.said,
        **facts,
        "num_censored_sessions": counts.num_shown_sessions - counts.num_ends,
        "missing": _missing(source, raw, items, users),
        "share_of_known_propensities": counts.propensities.share,
        **of_items,
        "user_scaling": {name: asdict(scaling) for name, scaling in scalings.items()},
        "user_encoding": _encoding(source, known, looks, list(scalings)).to_json(),
        "history_file_used": known.prior.found,
    }
    return Logs(
        frame=frame,
        catalogue=catalogue,
        tasks=tuple(source.tasks),
        facts=facts,
        notes=[
            f"times: {raw.said}",
            note_on_propensities(counts.propensities, source.support_density),
            *notes_on_contexts(counts.words, looks.one_hots),
        ],
        tables={ITEM_IDS: item_ids.table, USER_IDS: user_ids.table},
        files=known.spill,
    )


def _missing(
    source: TableSettings, raw: RawLog, items: pl.DataFrame | None, users: pl.DataFrame | None
) -> dict[str, float]:
    """Share of rows without a value, by column; those without gaps are left out."""
    named = {n: s for n, s in raw.census.missing().items() if n != "propensity"}
    if source.log.propensity:
        named["propensity"] = raw.census.missing()["propensity"]
    shares = {f"log: {name}": share for name, share in named.items()}
    for title, table in (("items", items), ("users", users)):
        for name in table.columns if table is not None else ():
            column = name.partition(".")[2] or name
            shares[f"{title}: {column}"] = table[name].null_count() / table.height  # pyright: ignore
    return {name: share for name, share in shares.items() if share > 0}


def _counted(source: TableSettings) -> list[str]:
    """Columns of which all values must be known before a partition is worked on."""
    plan = plan_of(source.rates, list(source.contexts), list(categories_of(source.items)))
    contexts = {*plan.contexts, *plan.user_contexts}
    return ["user", "item", "session", "timeline", *(f"context.{name}" for name in contexts)]


def _all_ids(table: pl.DataFrame | None, raw: RawLog, name: str) -> pl.Series:
    seen = raw.census.counts(name)["id"]
    return seen if table is None else pl.concat([table["id"], seen])


def _known(
    source: TableSettings,
    raw: RawLog,
    user_ids: IdMap,
    users: pl.DataFrame | None,
    content: ItemContent,
) -> Known:
    people = user_ids.table.rename({"id": "user", "row": "user_id"})
    if not source.splits.holdout:
        people = people.with_columns(are_held_out(people["user"], source.splits).alias("holdout"))
    words = {}
    for name in raw.census.columns:
        if name in ("session", "timeline"):
            words[name] = IdMap.of(raw.census.counts(name)["id"], keep_integers=True)
        elif name.startswith("context."):
            values = raw.census.counts(name)["id"].cast(pl.String).fill_null("")
            words[name] = IdMap.of(values)
    return Known(
        source=source,
        rates=source.rates,
        plan=plan_of(source.rates, list(source.contexts), list(content.groups)),
        prior=read_prior(source.history, source.rates, content.ids, user_ids),
        content=content,
        profiles=Profiles.of(users, user_ids) if users is not None else None,
        users=people,
        items=content.ids,
        words=words,
        days=raw.census.days(),
        is_dated=bool(source.rates.of or source.items.published or not source.items.path),
        last_ms=raw.census.last_ms,
        grains=np.array(_firsts(raw, people, GRAIN)[1:], np.int64),
        spill=raw.spill,
    )


def _firsts(raw: RawLog, people: pl.DataFrame, num_rows: int) -> list[int]:
    """User rows at which the log is cut into pieces of about `num_rows` events."""
    counts = raw.census.counts("user").join(people, left_on="id", right_on="user")
    return bounds_of(counts.select(id="user_id", num="num"), num_rows)


def _people(source: TableSettings, raw: RawLog, known: Known) -> list[Span]:
    """Spans of users, whole grains each; one in memory, and where users may share a timeline."""
    if "timeline" in known.words or known.spill.folder is None:
        return [Span()]
    grains = [0, *known.grains.tolist()]
    return spans(grains[:: source.partition_events // GRAIN])


def _cut(
    known: Known, engine: Engine, parts: list[Part], people: list[Span]
) -> tuple[list[Part], Counts]:
    found, total = [], None
    calls = [(f"cut-{n}", parts, span) for n, span in enumerate(people)]
    for part, counts in engine.map(cut, known, calls):
        found.append(part)
        if total is None:
            total = counts
        else:
            total.add(counts)
    assert total is not None
    known.spill.drop(parts)
    require_each(total.splits, known.source.splits, known.days)
    if "session" in known.words and sum(total.num_sessions) > len(known.words["session"]):
        more = sum(total.num_sessions) - len(known.words["session"])
        raise broken(f"{more} sessions with events of several users")
    return found, total


def _dense(source: TableSettings, known: Known, counts: Counts) -> dict[str, np.ndarray]:
    """Features of items, name -> [D, N]."""
    first = known.days.first if known.days is not None else 0
    dense = dated(known.content, first, known.num_snapshots)
    if known.days is not None and (source.rates.of or not dense):
        dense |= item_statistics(
            counts.sums, source.rates, known.plan, known.prior, known.content.groups
        )
    return dense


def _looks(
    source: TableSettings, known: Known, counts: Counts, fills: Mapping[str, float]
) -> Looks:
    train_N = counts.sums.train_DN.sum(axis=0)
    content, groups = known.content, known.plan.user_groups
    return Looks(
        rates=source.rates,
        plan=known.plan,
        groups={name: content.codes[name] for name in groups},
        group_words=content.words,
        one_hots={n: common_words(c, counts.num_train) for n, c in counts.words.items()},
        common_groups={
            name: common_codes(
                np.bincount(
                    content.codes[name], weights=train_N, minlength=len(content.words[name]) + 1
                ),
                counts.num_train,
            )
            for name in groups
        },
        has_history=known.prior.configured,
        has_dwell=bool(source.log.dwell_s),
        clock=source.clock and known.days is not None,
        fills=fills,
    )


def _encoding(
    source: TableSettings, known: Known, looks: Looks, features: list[str]
) -> FeatureEncoding:
    """What raw columns of a request become; see `user_features`."""
    profiles = known.profiles.fill if known.profiles is not None else {}
    zone = source.log.time_zone if looks.clock else ""
    return FeatureEncoding.of(looks.one_hots, {**looks.fills, **profiles}, zone, features)


def _featured(
    source: TableSettings,
    known: Known,
    learned: Learned,
    engine: Engine,
    cuts: list[Part],
    counts: Counts,
) -> tuple[pl.DataFrame | pl.LazyFrame, Mapping[str, Scaling]]:
    """The events as they are written, and the scaling of each feature."""
    own = [0] * len(cuts)
    if "session" not in known.words:
        own = np.cumsum([0, *counts.num_sessions[:-1]]).tolist()
    calls = [
        (learned, f"events-{n}", part, first)
        for n, (part, first) in enumerate(zip(cuts, own, strict=True))
    ]
    parts, moments = [], {}
    for part, pieces in engine.map(featured, known, calls):
        parts.append(part)
        for grain, piece in pieces:
            moments[grain] = moments[grain].plus(piece) if grain in moments else piece
    known.spill.drop(cuts)
    lazy = pl.concat([part.scan() for part in parts])
    names = [name for name in lazy.collect_schema().names() if name.startswith("u_")]
    scalings = {name: Scaling(mean=0.0, std=1.0) for name in names}
    if source.standardise:
        scalings = _merged(moments).scalings(names)
        lazy = lazy.with_columns(scaling.expression(n) for n, scaling in scalings.items())
    else:
        lazy = lazy.with_columns(pl.col(names).cast(pl.Float32))
    frame = lazy if known.spill.folder is not None else lazy.collect()
    return frame, {name[2:]: scaling for name, scaling in scalings.items()}


def _merged(moments: Mapping[int, Moments]) -> Moments:
    ordered = [moments[grain] for grain in sorted(moments)]
    total = ordered[0]
    for piece in ordered[1:]:
        total = total.plus(piece)
    return total
