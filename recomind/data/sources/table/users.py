"""User and context features of an event, from its context and strictly earlier events.

Events of one user at the same time do not see each other. Rates are of surprise, as in
`recomind.data.sources.table.rates`, and smoothed: (sum + m * prior) / (n + m). Ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from recomind.data.ids import in_natural_order
from recomind.data.running import Earlier
from recomind.data.sources.table.config import Rates
from recomind.data.sources.table.rates import Plan, user_rate
from recomind.data.times import DAY_MS, duration_ms
from recomind.errors import SchemaError

_HOUR_MS = 3_600_000
_LONG_AGO_HOURS = 720.0
_RARE = 0.005  # a one-hot column needs this share of the training rows
_MOST_VALUES = 64  # one-hot columns of a name at most


@dataclass(kw_only=True, slots=True)
class Looks:
    """What features of events are computed from, beside the events themselves."""

    rates: Rates
    plan: Plan
    groups: Mapping[str, np.ndarray]  # [N] int64 of an item's category, by name
    group_words: Mapping[str, list[str]]  # words of codes 1, 2, ...
    one_hots: Mapping[str, list[str]]  # column -> values with a 0/1 feature each
    common_groups: Mapping[str, list[int]]  # name -> codes with a rate of the user's each
    has_history: bool
    has_dwell: bool
    clock: bool
    fills: Mapping[str, float]  # context.<name> with gaps -> what stands for one


def user_features(events: pl.DataFrame, looks: Looks) -> pl.DataFrame:
    """Features [E, U] float64, one column each, not yet standardised.

    Args:
        events: all of some users, with the columns of `with_user_rates`; `beyond_item.<task>`:
            surprise minus the item's rate on earlier days; `context.<name>`, `code.<name>`;
            `number.<name>` and `category.<name>` of the user; and `ms_of_day`.
        looks: what else is needed.
    """
    columns: dict[str, np.ndarray] = {}
    if looks.rates.of:
        time, user = events["time_ms"].to_numpy(), events["user_id"].to_numpy()
        earlier = Earlier(time, user)
        within = {
            n: Earlier(time, user, events[f"code.{n}"].to_numpy()) for n in looks.plan.user_contexts
        }
        columns |= _activity(events, looks, earlier, within)
        for task in looks.rates.of:
            columns |= _rates(task, events, looks, earlier, within)
        columns |= _rates_on_groups(events, looks, earlier)
    more = [
        *(
            events[f"base.{name}.{task}"].alias(f"{name}_rate_{task}")
            for name in looks.plan.contexts
            for task in looks.rates.of
        ),
        *(_clock(events) if looks.clock else []),
        *_numbers_of_context(events, looks.fills),
        *(events[n].alias(n[7:]) for n in events.columns if n.startswith("number.")),
        *_one_hots(events, looks, "context."),
        *_one_hots(events, looks, "category."),
    ]
    _require_distinct([*columns, *(s.name for s in more)])
    found = pl.DataFrame(columns) if columns else pl.DataFrame({"_": np.zeros(events.height)})
    return found.hstack(more).drop("_", strict=False)


def _require_distinct(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise SchemaError(
                "two user features have one name",
                got=repr(name),
                mend="call one of them otherwise in data.context or data.users, as in "
                "{age_at_event: age}",
            )


def counted(events: pl.DataFrame) -> list[str]:
    """Columns whose values may have a 0/1 feature each."""
    contexts = [n for n in events.columns if n.startswith("context.") and not is_number(events[n])]
    return contexts + [n for n in events.columns if n.startswith("category.")]


def common_words(counts: pl.DataFrame, num_train: int) -> list[str]:
    """The values that have a feature, in order.

    Args:
        counts: `id` and `num` of each value over the training rows.
        num_train: how many those are.
    """
    common = counts.filter(pl.col("id").is_not_null() & (pl.col("num") >= _RARE * num_train))
    first = common.sort(["num", "id"], descending=[True, False]).head(_MOST_VALUES)
    return in_natural_order(first["id"]).to_list()


def notes_on_contexts(
    counts: Mapping[str, pl.DataFrame], one_hots: Mapping[str, list[str]]
) -> list[str]:
    """Which categories have no feature, since none of their values is common enough."""
    return [
        f"{name.partition('.')[2]}: no user feature is made of it, since none of its {num:,} "
        f"values has {_RARE:.1%} of the events; a quantity is written as CAST(... AS DOUBLE)"
        for name, num in ((n, c["id"].drop_nulls().len()) for n, c in counts.items())
        if num and not one_hots[name]
    ]


def common_codes(num_C: np.ndarray, num_train: int) -> list[int]:
    """The codes of a category that have a feature, in order; `num_C` is as in `common_words`."""
    first = np.argsort(-num_C, kind="stable")[:_MOST_VALUES]
    return sorted(int(c) for c in first if c > 0 and num_C[c] >= _RARE * num_train)


def is_number(values: pl.Series) -> bool:
    """Whether a context is a number, and no category: floats are."""
    return values.dtype.is_float()


def _numbers_of_context(events: pl.DataFrame, fills: Mapping[str, float]) -> list[pl.Series]:
    """A number has a further column that says where it is missing, if it ever is."""
    columns = []
    named = [n for n in events.columns if n.startswith("context.") and is_number(events[n])]
    for name in named:
        values = events[name].cast(pl.Float64)
        columns.append(values.fill_null(fills.get(name, 0.0)).alias(name[8:]))
        if name in fills:
            columns.append(values.is_null().cast(pl.Float64).alias(f"{name[8:]}_missing"))
    return columns


def _activity(
    events: pl.DataFrame, looks: Looks, earlier: Earlier, within: Mapping[str, Earlier]
) -> dict[str, np.ndarray]:
    hours = np.nan_to_num(earlier.elapsed() / _HOUR_MS, nan=_LONG_AGO_HOURS)
    count = earlier.count()
    columns = {"log_events": np.log1p(count)}
    columns |= {f"log_events_in_{n}": np.log1p(e.count()) for n, e in within.items()}
    if looks.has_history:
        columns["log_events_before_log"] = np.log1p(events["prior_seen"].to_numpy())
        columns["recent_before_log"] = events["prior_recent"].to_numpy()
    columns["log_hours_since"] = np.log1p(np.minimum(hours, _LONG_AGO_HOURS))
    if looks.has_dwell:
        log_dwell = events["dwell_s"].log1p().to_numpy()
        columns["mean_log_dwell_s"] = earlier.total(log_dwell) / (count + 1.0)
        columns["last_log_dwell_s"] = earlier.recent(log_dwell, 1)
    for name in looks.rates.windows:
        within_window = earlier.count_since(duration_ms(name, "data.rates.windows"))
        columns[f"log_events_{name}"] = np.log1p(within_window)
    return columns


def _rates(
    task: str, events: pl.DataFrame, looks: Looks, earlier: Earlier, within: Mapping[str, Earlier]
) -> dict[str, np.ndarray]:
    """The user's rate, in each context, of the last few events, and the last one's surprise."""
    if not looks.plan.user and not within:
        return {}
    value, m = events[f"beyond_item.{task}"].to_numpy(), looks.rates.user_smoothing
    rate = user_rate(earlier, events, value, m)
    few = np.minimum(earlier.count(), looks.rates.recent)
    columns = {f"rate_{task}": rate}
    for name, here in within.items():
        columns[f"rate_in_{name}_{task}"] = (here.total(value) + m * rate) / (here.count() + m)
    columns[f"recent_{task}"] = earlier.recent(value, looks.rates.recent) / (few + 1.0)
    columns[f"last_{task}"] = earlier.recent(value, 1)
    return columns


def _rates_on_groups(
    events: pl.DataFrame, looks: Looks, everyone: Earlier
) -> dict[str, np.ndarray]:
    """The user's rate on items of each common value of a category: known before the item is.

    `rate_on_<category>_<value>_<task>`, over the user's earlier events with such an item.
    """
    columns, m, item = {}, looks.rates.user_smoothing, events["item_id"].to_numpy()
    for name, codes in looks.common_groups.items():
        code = looks.groups[name][item]
        for c in codes:
            here = code == c
            count = everyone.total(here.astype(np.int64))
            for task in looks.rates.of:
                value = events[f"beyond_item.{task}"].to_numpy() * here
                word = looks.group_words[name][c - 1]
                columns[f"rate_on_{name}_{word}_{task}"] = everyone.total(value) / (count + m)
    return columns


def _clock(events: pl.DataFrame) -> list[pl.Series]:
    of_day = events["ms_of_day"] / DAY_MS * (2 * math.pi)
    return [of_day.sin().alias("hour_sin"), of_day.cos().alias("hour_cos")]


def _one_hots(events: pl.DataFrame, looks: Looks, prefix: str) -> list[pl.Series]:
    """One 0/1 column a value that is not rare among the training rows; rare ones are all 0."""
    columns = []
    for name in [n for n in events.columns if n.startswith(prefix) and n in looks.one_hots]:
        text = events[name].cast(pl.String)
        columns += [
            (text == word).fill_null(False).cast(pl.Float64).alias(f"{name[len(prefix) :]}_{word}")
            for word in looks.one_hots[name]
        ]
    return columns
