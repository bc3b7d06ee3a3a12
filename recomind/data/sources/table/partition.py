"""One partition of users: cut into sessions first, and given its features once all are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from recomind.data.scaling import Moments
from recomind.data.sessions import SCHEMA
from recomind.data.sources.table.known import Known
from recomind.data.sources.table.propensities import Propensities
from recomind.data.sources.table.rates import ItemSums, with_user_rates
from recomind.data.sources.table.sessions import in_sessions
from recomind.data.sources.table.spill import Part, Span, read
from recomind.data.sources.table.splits import with_splits
from recomind.data.sources.table.users import Looks, counted, user_features


@dataclass(kw_only=True, slots=True)
class Counts:
    """What is counted over the events of partitions."""

    sums: ItemSums
    num_sessions: list[int]  # that each partition has
    num_ends: int = 0  # known ends of sessions
    num_shown_sessions: int = 0
    splits: set[str] = field(default_factory=set)
    num_train: int = 0
    words: dict[str, pl.DataFrame] = field(default_factory=dict)  # training rows by value
    propensities: Propensities = field(default_factory=Propensities)

    def add(self, other: Counts) -> None:
        """Take in those of the next partition."""
        self.sums.add(other.sums)
        self.num_sessions += other.num_sessions
        self.num_ends += other.num_ends
        self.num_shown_sessions += other.num_shown_sessions
        self.splits |= other.splits
        self.num_train += other.num_train
        self.propensities.merge(other.propensities)
        for name, counts in other.words.items():
            both = pl.concat([self.words[name], counts]) if name in self.words else counts
            self.words[name] = both.group_by("id").agg(pl.col("num").sum())


def cut(known: Known, name: str, parts: Sequence[Part], span: Span) -> tuple[Part, Counts]:
    """Events of some users with sessions, splits and what surprised of them; and their counts.

    Args:
        known: of the log.
        name: of the part that is made.
        parts: from `sweep`.
        span: of the users' rows.
    """
    source = known.source
    events = read(parts, "user_id", span).sort("user_id", maintain_order=True)
    events = _dated(known, in_sessions(events, source.sessions, known.last_ms))
    events = with_splits(events, source.splits, known.days)
    events = events.drop("_row", "user", "session", strict=False)
    events = with_user_rates(events, known.rates, known.plan, known.prior)
    if known.profiles is not None:
        events = known.profiles.joined(events)
    return known.spill.keep(name, events), _counts(known, events)


def _dated(known: Known, events: pl.DataFrame) -> pl.DataFrame:
    """Events with `day` from 0, and the `snapshot` of the catalogue that was current."""
    if known.days is None:
        return events.with_columns(snapshot=pl.lit(0, pl.Int32), day=pl.lit(0))
    day = pl.col("local_day") - known.days.first
    snapshot = day.cast(pl.Int32) if known.is_dated else pl.lit(0, pl.Int32)
    return events.with_columns(day=day, snapshot=snapshot)


def _counts(known: Known, events: pl.DataFrame) -> Counts:
    shown = events.filter(pl.col("position") >= 0)
    train = events.filter(pl.col("split") == "train")
    counts = Counts(
        sums=ItemSums.of(
            events,
            known.rates,
            known.num_snapshots,
            len(known.items),
            by_day=known.days is not None,
        ),
        num_sessions=[events["session_id"].n_unique()],
        num_ends=int(shown["left"].sum()),
        num_shown_sessions=shown["session_id"].n_unique(),
        splits=set(events["split"].unique()),
        num_train=train.height,
        words={
            name: train.group_by(pl.col(name).cast(pl.String).alias("id")).agg(num=pl.len())
            for name in counted(events)
        },
    )
    counts.propensities.add(shown["propensity"])
    return counts


@dataclass(kw_only=True, slots=True)
class Learned:
    """What is known once all partitions are cut."""

    rates_DN: dict[str, np.ndarray]  # task -> [D, N], an item's rate on earlier days
    looks: Looks
    tasks: Sequence[str]


def featured(
    known: Known, learned: Learned, name: str, part: Part, first_session: int
) -> tuple[Part, list[tuple[int, Moments]]]:
    """The events of a partition as they are written, features not yet standardised.

    Args:
        known: of the log.
        learned: of the log.
        name: of the part that is made.
        part: from `cut`.
        first_session: sessions in the partitions before it; 0 where the log numbers them.

    Returns:
        The part, and the moments of the features over the training rows of each grain of users.
    """
    events = _beyond_items(part.scan().collect(), known, learned)
    features = user_features(events, learned.looks)
    frame = events.with_columns(pl.col("session_id") + first_session)
    frame = frame.select(
        *(pl.col(n).cast(t) for n, t in SCHEMA.items()),
        *(pl.col(task).cast(pl.UInt8) for task in learned.tasks),
    ).hstack(features.select(pl.all().name.prefix("u_")))
    return known.spill.keep(name, frame), _moments(known, events, features)


def _beyond_items(events: pl.DataFrame, known: Known, learned: Learned) -> pl.DataFrame:
    """Events with `beyond_item.<task>`: surprise minus the item's rate on earlier days."""
    day, item = events["day"].to_numpy(), events["item_id"].to_numpy()
    columns = {}
    for task in known.rates.of:
        rate_DN = learned.rates_DN.get(task)
        own = 0.0 if rate_DN is None else pl.Series(rate_DN[day, item])
        columns[f"beyond_item.{task}"] = pl.col(f"surprise.{task}") - own
    return events.with_columns(**columns)


def _moments(
    known: Known, events: pl.DataFrame, features: pl.DataFrame
) -> list[tuple[int, Moments]]:
    train = events["split"] == "train"
    grain = np.searchsorted(known.grains, events["user_id"].to_numpy(), side="right")
    ordered = features.with_columns(pl.Series("grain", grain)).filter(train)
    if not ordered["grain"].is_sorted():
        ordered = ordered.sort("grain", maintain_order=True)
    which, first = np.unique(ordered["grain"].to_numpy(), return_index=True)
    ends = [*first[1:], ordered.height]
    matrix_EU = ordered.drop("grain").to_numpy(order="fortran")
    return [
        (int(g), Moments.of(matrix_EU[a:b])) for g, a, b in zip(which, first, ends, strict=True)
    ]
