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

from recomind.data.running import Earlier
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


def with_surprise(
    events: pl.DataFrame, rates: Rates, plan: Plan, codes: Mapping[str, np.ndarray]
) -> pl.DataFrame:
    """Events with `surprise.<label>` and, for each context, `base.<context>.<label>`.

    The base is the context's rate before the event, not before its day: on a log's first days it
    would be unknown.

    Args:
        events: with `time_ms` and the labels.
        rates: the settings.
        plan: from `plan_of`.
        codes: [E] int64 of each context.
    """
    time = events["time_ms"].to_numpy()
    overall = Earlier(time, np.zeros_like(time))
    within = {name: Earlier(time, codes[name]) for name in plan.contexts}
    columns, m = {}, rates.context_smoothing
    for label in labels_of(rates):
        value = events[label].to_numpy().astype(np.float64)
        rate = (overall.total(value) + m * rates.prior) / (overall.count() + m)
        base = rate
        for place, (name, earlier) in enumerate(within.items()):
            here = (earlier.total(value) + m * rate) / (earlier.count() + m)
            columns[f"base.{name}.{label}"] = pl.Series(here)
            base = here if place == 0 else base
        columns[f"surprise.{label}"] = pl.Series(value - base)
    return events.with_columns(**columns)


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


def sums_before(
    day: np.ndarray, group: np.ndarray, value: np.ndarray, num_days: int, num_groups: int
) -> np.ndarray:
    """[D, G]: the sum of `value` [E] over the events of each group on days before the row's."""
    cell = day * num_groups + group
    daily = np.bincount(cell, weights=value, minlength=num_days * num_groups)
    daily_DG = daily.reshape(num_days, num_groups)
    return np.cumsum(daily_DG, axis=0) - daily_DG


def item_statistics(
    events: pl.DataFrame,
    rates: Rates,
    plan: Plan,
    prior: Prior,
    groups_N: Mapping[str, np.ndarray],
    num_days: int,
) -> dict[str, np.ndarray]:
    """Name -> [D, N]: what each day knows of each item from earlier days.

    Args:
        events: with `day`, `item_id`, and the columns of `with_user_rates`.
        rates: the settings.
        plan: from `plan_of`.
        prior: what was known before day 0.
        groups_N: [N] int64 of each category in `plan.groups`, densely numbered.
        num_days: `D`.
    """
    num_items, m = len(prior.item_num_N), rates.item_smoothing
    day, item = events["day"].to_numpy(), events["item_id"].to_numpy()
    num_DN = sums_before(day, item, np.ones(len(day)), num_days, num_items)
    per_day_DN = num_DN / np.maximum(np.arange(num_days), 1)[:, None]
    statistics = {"log_exposures_per_day": np.log1p(per_day_DN)}
    if prior.configured:
        before = np.log1p(np.broadcast_to(prior.item_num_N, num_DN.shape))
        statistics["log_exposures_before_log"] = before
    if not plan.item and not plan.groups:
        return statistics
    for task in rates.of:
        value = events[f"beyond_user.{task}"].to_numpy()
        sum_DN = sums_before(day, item, value, num_days, num_items) + prior.item_sum_N
        statistics |= _nested(task, sum_DN, num_DN + prior.item_num_N, plan, groups_N, m)
    for name in rates.of_items:
        value = events[f"surprise.label.{name}"].to_numpy()
        sum_DN = sums_before(day, item, value, num_days, num_items)
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
