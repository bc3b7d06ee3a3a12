"""What is known from before the log: events of which one label is known, and not their times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from recomind.data.ids import IdMap, as_ids
from recomind.data.sources.finding import find_paths
from recomind.data.sources.scanning import Table
from recomind.data.sources.table.config import HistoryTable, Rates
from recomind.errors import ConfigError

_USERS = {
    "user_id": pl.Int64(),
    "prior_sum": pl.Float64(),  # sum of label minus the overall rate minus the item's rate
    "prior_num": pl.Float64(),  # events in the file
    "prior_seen": pl.Float64(),  # events before the log, those the file leaves out included
    "prior_recent": pl.Float64(),  # mean of the last events, as in `prior_sum`
}


@dataclass(kw_only=True, slots=True)
class Prior:
    """Sums of surprise and counts before the log; zeros where nothing is known."""

    item_sum_N: np.ndarray  # float64, of label minus the user's own smoothed rate
    item_num_N: np.ndarray  # float64
    users: pl.DataFrame  # columns of `_USERS`
    configured: bool  # whether features tell of it
    found: bool = False  # whether there was a file


def read_prior(files: HistoryTable, rates: Rates, items: IdMap, users: IdMap) -> Prior:
    """Additive effects of users and items, each smoothed: (sum + m * prior) / (n + m). Ours."""
    num_items = len(items)
    nothing = Prior(
        item_sum_N=np.zeros(num_items),
        item_num_N=np.zeros(num_items),
        users=pl.DataFrame(schema=_USERS),
        configured=bool(files.path),
    )
    if not files.path or not files.use or (files.optional and not _there(files)):
        return nothing
    events = _events(files, items)
    item = events["item_id"].to_numpy()
    label = pl.col("label").cast(pl.Float64)
    events = events.with_columns(surprise=label - label.mean())
    user_rate = pl.col("surprise").sum() / (pl.len() + rates.user_smoothing)
    beyond_user = events.select(pl.col("surprise") - user_rate.over("user"))["surprise"]
    total_N = np.bincount(item, weights=beyond_user.to_numpy(), minlength=num_items)
    count_N = np.bincount(item, minlength=num_items).astype(np.float64)
    item_rate = pl.Series((total_N / (count_N + rates.item_smoothing))[item])
    events = events.with_columns(beyond_item=pl.col("surprise") - item_rate)
    return Prior(
        item_sum_N=total_N,
        item_num_N=count_N,
        users=_users(events, users, files.recent),
        configured=True,
        found=True,
    )


def _there(files: HistoryTable) -> bool:
    try:
        return bool(find_paths(files.path, "data.history.path"))
    except ConfigError:
        return False


def _events(files: HistoryTable, items: IdMap) -> pl.DataFrame:
    """Rows with `user` (text), `item_id`, `place` and `label`, of known items."""
    table = Table(files, "data.history", ids=(files.user, files.item))
    names = {"user": files.user, "item": files.item, "place": files.order, "label": files.label}
    frame = table.collect({name: table.expression(text, name) for name, text in names.items()})
    label = pl.col("label").cast(pl.Int64, strict=False)
    table.require(frame, "label", label.is_in([0, 1]), "0 or 1")
    rows = items.rows(frame["item"])
    frame = frame.with_columns(
        as_ids(frame["user"], "data.history").alias("user"), pl.Series("item_id", rows)
    )
    return frame.filter(pl.col("item_id") >= 0)


def _users(events: pl.DataFrame, users: IdMap, recent: int) -> pl.DataFrame:
    beyond = pl.col("beyond_item")
    table = (
        events.sort("user", "place")
        .group_by("user", maintain_order=True)
        .agg(
            prior_sum=beyond.sum(),
            prior_num=pl.len(),
            prior_seen=pl.col("place").max() + 1,
            prior_recent=beyond.tail(recent).sum() / (beyond.tail(recent).len() + 1),
        )
    )
    table = table.with_columns(pl.Series("user_id", users.rows(table["user"])))
    return table.filter(pl.col("user_id") >= 0).select(list(_USERS)).cast(pl.Schema(_USERS))
