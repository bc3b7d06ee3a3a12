"""Running rates of users, contexts and items, from what came strictly before.

Symbols: `E` events, `D` days of the log, `N` items, `G` groups.

Rates are of surprise: label minus the rate of the event's context until then, so that an item is
not judged by where it was shown, and for items minus the user's own rate, so that it is not
judged by who saw it. Smoothing pulls an item to its narrowest category, that to the next wider one
and the widest to 0: (sum + m * prior) / (n + m). Ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recomind.data.running import RESOLUTION, Earlier, as_integers
from recomind.data.sources.table.config import Rates
from recomind.data.sources.table.history import Prior
from recomind.errors import ConfigError, did_you_mean


@dataclass(kw_only=True, slots=True)
class Plan:
    """`data.rates.by`, sorted out."""

    user: bool
    item: bool
    contexts: list[str]  # the first is what surprise is relative to
    groups: list[str]  # categories of items, narrowest first
    user_contexts: list[str]
    user_groups: list[str]


def plan_of(rates: Rates, contexts: Sequence[str], categories: Sequence[str]) -> Plan:
    """What `rates.by` asks for.

    Raises:
        ConfigError: a name that is no context and no category of items.
    """
    entries: list[Any] = ["user", "item"] if rates.by is None else list(rates.by)
    pairs = [e for e in entries if isinstance(e, (list, tuple))]
    for pair in pairs:
        if len(pair) != 2 or pair[0] != "user":
            raise ConfigError(
                "data.rates.by has a pair that is not [user, something]", got=list(pair)
            )
    single = [str(e) for e in entries if not isinstance(e, (list, tuple))]
    second = [str(pair[1]) for pair in pairs]
    known = ["user", "item", *contexts, *categories]
    for name in single + second:
        if name not in known:
            raise ConfigError(
                "data.rates.by names neither a context nor a category of items",
                got=repr(name),
                mend=did_you_mean(name, known),
            )
    return Plan(
        user="user" in single,
        item="item" in single,
        contexts=[n for n in single if n in contexts],
        groups=[n for n in single if n in categories and n not in contexts],
        user_contexts=[n for n in second if n in contexts],
        user_groups=[n for n in second if n in categories and n not in contexts],
    )


@dataclass(kw_only=True, slots=True)
class Totals:
    """Events and labels by value of each context, `C` values; those of all under the name ""."""

    num: dict[str, np.ndarray]  # [C] int64
    labels: dict[tuple[str, str], np.ndarray]  # (context, label) -> [C] int64

    @classmethod
    def none(cls, rates: Rates, plan: Plan, sizes: Mapping[str, int]) -> Totals:
        """Before the first event."""
        names = ["", *plan.contexts]
        return cls(
            num={name: np.zeros(sizes.get(name, 1), np.int64) for name in names},
            labels={
                (name, label): np.zeros(sizes.get(name, 1), np.int64)
                for name in names
                for label in labels_of(rates)
            },
        )

    def plus(self, events: pl.DataFrame) -> Totals:
        """With further events, that have the labels and `code.<context>`."""
        codes = {name: _codes(events, name) for name in self.num}
        ones = {label: (events[label] == 1).to_numpy() for _, label in self.labels}
        return Totals(
            num={n: v + np.bincount(codes[n], minlength=len(v)) for n, v in self.num.items()},
            labels={
                (n, label): v + np.bincount(codes[n][ones[label]], minlength=len(v))
                for (n, label), v in self.labels.items()
            },
        )

    def __add__(self, other: Totals) -> Totals:
        """Sums over the events of both."""
        return Totals(
            num={n: v + other.num[n] for n, v in self.num.items()},
            labels={n: v + other.labels[n] for n, v in self.labels.items()},
        )


def with_surprise(events: pl.DataFrame, rates: Rates, plan: Plan, before: Totals) -> pl.DataFrame:
    """Events with `surprise.<label>` and, for each context, `base.<context>.<label>`.

    The base is the context's rate before the event, not before its day: on a log's first days it
    would be unknown.

    Args:
        events: of a span of time, with `time_ms`, the labels and `code.<context>`.
        rates: the settings.
        plan: from `plan_of`.
        before: totals of the events before the span.
    """
    if not labels_of(rates):
        return events
    time = events["time_ms"].to_numpy()
    codes = {name: _codes(events, name) for name in ["", *plan.contexts]}
    within = {name: Earlier(time, code) for name, code in codes.items()}
    columns, m = {}, rates.context_smoothing
    for label in labels_of(rates):
        value, rate, base = events[label].to_numpy(), rates.prior, None
        for name, earlier in within.items():
            total = earlier.total(value) + before.labels[name, label][codes[name]]
            num = earlier.count() + before.num[name][codes[name]]
            here = (total + m * rate) / (num + m)
            if not name:
                rate = base = here
                continue
            columns[f"base.{name}.{label}"] = pl.Series(here)
            base = here if name == plan.contexts[0] else base
        columns[f"surprise.{label}"] = pl.Series(value - base)
    return events.with_columns(**columns)


def _codes(events: pl.DataFrame, context: str) -> np.ndarray:
    if not context:
        return np.zeros(events.height, np.int64)
    return events[f"code.{context}"].to_numpy()


def labels_of(rates: Rates) -> list[str]:
    """Columns of events that rates are of: tasks, and labels for items only."""
    return [*rates.of, *(f"label.{name}" for name in rates.of_items)]


def with_user_rates(events: pl.DataFrame, rates: Rates, plan: Plan, prior: Prior) -> pl.DataFrame:
    """Events with `beyond_user.<task>`: surprise minus the user's own rate before the event.

    Adds the user's columns of `Prior.users` as well, 0 where nothing is known.
    """
    events = events.join(prior.users, on="user_id", how="left", maintain_order="left")
    known = pl.col("prior_sum", "prior_num", "prior_recent", "prior_seen")
    events = events.with_columns(known.fill_null(0.0))
    earlier = Earlier(events["time_ms"].to_numpy(), events["user_id"].to_numpy())
    columns = {}
    for task in rates.of:
        surprise = events[f"surprise.{task}"].to_numpy()
        own = user_rate(earlier, events, surprise, rates.user_smoothing) if plan.user else 0.0
        columns[f"beyond_user.{task}"] = pl.Series(surprise - own)
    return events.with_columns(**columns)


def user_rate(earlier: Earlier, events: pl.DataFrame, value: np.ndarray, m: float) -> np.ndarray:
    """[E]: smoothed mean of `value` [E] over the user's earlier events of all times."""
    total = earlier.total(value) + events["prior_sum"].to_numpy()
    return total / (earlier.count() + events["prior_num"].to_numpy() + m)


@dataclass(kw_only=True, slots=True)
class ItemSums:
    """What happened with each item on each day, in integers: parts of a log add up exactly."""

    num_DN: np.ndarray  # int64, events
    train_DN: np.ndarray  # int64, events that train, by snapshot
    labels: dict[str, np.ndarray]  # label -> [D, N] int64, surprise in units of `RESOLUTION`

    @classmethod
    def of(
        cls, events: pl.DataFrame, rates: Rates, num_days: int, num_items: int, *, by_day: bool
    ) -> ItemSums:
        """Sums over events with `day`, `snapshot`, `split` and the columns of `with_user_rates`."""
        item, shape = events["item_id"].to_numpy(), (num_days, num_items)
        cell = events["snapshot"].to_numpy().astype(np.int64) * num_items + item
        train = (events["split"] == "train").to_numpy()
        size = num_days * num_items
        sums = {}
        for label in labels_of(rates) if by_day else ():
            own = f"surprise.{label}" if label.startswith("label.") else f"beyond_user.{label}"
            total = np.zeros(size, np.int64)
            np.add.at(total, cell, as_integers(events[own].to_numpy()))
            sums[label] = total.reshape(shape)
        return cls(
            num_DN=np.bincount(cell, minlength=size).reshape(shape),
            train_DN=np.bincount(cell[train], minlength=size).reshape(shape),
            labels=sums,
        )

    def add(self, other: ItemSums) -> None:
        """Take in the sums of further events."""
        # Arrays that Ray brings cannot be written to.
        self.num_DN = self.num_DN + other.num_DN
        self.train_DN = self.train_DN + other.train_DN
        self.labels = {label: own + other.labels[label] for label, own in self.labels.items()}


def _before(daily_DN: np.ndarray) -> np.ndarray:
    """[D, N] float64: the sum over earlier days."""
    return (np.cumsum(daily_DN, axis=0) - daily_DN).astype(np.float64)


def item_statistics(
    sums: ItemSums, rates: Rates, plan: Plan, prior: Prior, groups_N: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Name -> [D, N]: what each day knows of each item from earlier days.

    Args:
        sums: of all events.
        rates: the settings.
        plan: from `plan_of`.
        prior: what was known before day 0.
        groups_N: [N] int64 of each category in `plan.groups`, densely numbered.
    """
    num_DN, m = _before(sums.num_DN), rates.item_smoothing
    per_day_DN = num_DN / np.maximum(np.arange(len(num_DN)), 1)[:, None]
    statistics = {"log_exposures_per_day": np.log1p(per_day_DN)}
    if prior.configured:
        before = np.log1p(np.broadcast_to(prior.item_num_N, num_DN.shape))
        statistics["log_exposures_before_log"] = before
    if not plan.item and not plan.groups:
        return statistics
    for task in rates.of:
        sum_DN = _before(sums.labels[task]) * RESOLUTION + prior.item_sum_N
        statistics |= _nested(task, sum_DN, num_DN + prior.item_num_N, plan, groups_N, m)
    for name in rates.of_items:
        sum_DN = _before(sums.labels[f"label.{name}"]) * RESOLUTION
        statistics |= _nested(name, sum_DN, num_DN, plan, groups_N, m)
    return statistics


def _nested(
    label: str,
    sum_DN: np.ndarray,
    num_DN: np.ndarray,
    plan: Plan,
    groups_N: Mapping[str, np.ndarray],
    m: float,
) -> dict[str, np.ndarray]:
    """Smoothed surprise of each category, widest first, and of the item, each [D, N]."""
    found: dict[str, np.ndarray] = {}
    wider_DN: Any = 0.0
    for name in reversed(plan.groups):
        group_N = groups_N[name]
        total_DN, count_DN = _group_sums(sum_DN, group_N), _group_sums(num_DN, group_N)
        wider_DN = (total_DN + m * wider_DN) / (count_DN + m)
        found[f"rate_{name}_{label}"] = wider_DN
    if plan.item:
        found[f"rate_{label}"] = (sum_DN + m * wider_DN) / (num_DN + m)
    return found


def _group_sums(value_DN: np.ndarray, group_N: np.ndarray) -> np.ndarray:
    """[D, N]: for each item the sum of `value_DN` over its group."""
    sums_GD = np.zeros((int(group_N.max()) + 1, value_DN.shape[0]))
    np.add.at(sums_GD, group_N, value_DN.T)
    return sums_GD.T[:, group_N]
