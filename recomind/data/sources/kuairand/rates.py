"""What a day may know of videos and tabs: statistics of strictly earlier days.

Symbols: `E` events, `D` days of the log, `N` videos, `G` groups (authors, tags or tabs).

Rates are of surprise: label minus the rate of the event's tab until then, so that a video is not
judged by the tab it was shown in (tabs differ from 5 % to 50 %), and for videos minus the
user's own rate, so that it is not judged by who saw it. Smoothing pulls a video to its author, an
author to its tag and a tag to 0: (sum + m * prior) / (n + m). Ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from recomind.data.running import Earlier
from recomind.data.sources.kuairand.history import Prior

RATED = ("watch_10s", "long_view")  # the tasks with enough positives for running rates
DEPTHS = {"played_3s": 3, "played_30s": 30}  # further labels for videos only: played for longer
_TAB_SMOOTHING = 50.0
_UNSEEN_RATE = 0.35  # of a first day that knows nothing; between the two rated tasks' overall rates


@dataclass(kw_only=True, slots=True)
class Groups:
    """Which author and tag each video belongs to, densely numbered."""

    author_N: np.ndarray  # int64
    tag_N: np.ndarray  # int64, 0 for unknown
    tags: list[str]  # names of tags 1, 2, ...


def groups_of(videos: pl.DataFrame) -> Groups:
    """Authors and first tags of the video table."""
    first_tag = videos["tag"].str.split(",").list.first()
    tags = sorted(set(first_tag.drop_nulls().to_list()) - {""})
    codes = {tag: code for code, tag in enumerate(tags, start=1)}
    tag_N = np.array([codes.get(tag, 0) for tag in first_tag.to_list()], dtype=np.int64)
    author_N = np.unique(videos["author_id"].to_numpy(), return_inverse=True)[1].astype(np.int64)
    return Groups(author_N=author_N, tag_N=tag_N, tags=tags)


def sums_before(
    day: np.ndarray, group: np.ndarray, value: np.ndarray, num_days: int, num_groups: int
) -> np.ndarray:
    """[D, G]: the sum of `value` [E] over the events of each group on days before the row's."""
    cell = day * num_groups + group
    daily = np.bincount(cell, weights=value, minlength=num_days * num_groups)
    daily_DG = daily.reshape(num_days, num_groups)
    return np.cumsum(daily_DG, axis=0) - daily_DG


def with_surprise(events: pl.DataFrame) -> pl.DataFrame:
    """Events with `base_<task>`, the tab's rate before the event, and `surprise_<task>`.

    The base is as of the event, not of its day: on a log's first days it would be unknown.
    """
    time, tab = events["time_ms"].to_numpy(), events["tab"].to_numpy()
    overall, in_tab = Earlier(time, np.zeros_like(tab)), Earlier(time, tab)
    columns = {}
    for task in (*RATED, *DEPTHS):
        label, m = events[task].to_numpy().astype(np.float64), _TAB_SMOOTHING
        rate = (overall.total(label) + m * _UNSEEN_RATE) / (overall.count() + m)
        base = (in_tab.total(label) + m * rate) / (in_tab.count() + m)
        columns |= {f"base_{task}": pl.Series(base), f"surprise_{task}": pl.Series(label - base)}
    return events.with_columns(**columns)


def item_statistics(
    events: pl.DataFrame, prior: Prior, groups: Groups, num_days: int, smoothing: float
) -> dict[str, np.ndarray]:
    """Name -> [D, N]: what each day knows of each video from earlier days.

    Args:
        events: with `day`, `item_id`, `surprise_<depth>`, and `beyond_user_<task>`: surprise
            minus the user's rate.
        prior: what was known before day 0.
        groups: authors and tags of the videos.
        num_days: `D`.
        smoothing: pseudo-events `m` of each rate.
    """
    num_items = len(groups.author_N)
    day, item = events["day"].to_numpy(), events["item_id"].to_numpy()
    num_DN = sums_before(day, item, np.ones(len(day)), num_days, num_items)
    per_day_DN = num_DN / np.maximum(np.arange(num_days), 1)[:, None]
    statistics = {
        "log_exposures_per_day": np.log1p(per_day_DN),
        "log_exposures_before_log": np.log1p(np.broadcast_to(prior.item_num_N, num_DN.shape)),
    }
    for task in RATED:
        value = events[f"beyond_user_{task}"].to_numpy()
        sum_DN = sums_before(day, item, value, num_days, num_items) + prior.item_sum_N
        statistics |= _nested_rates(task, sum_DN, num_DN + prior.item_num_N, groups, smoothing)
    for label in DEPTHS:
        value = events[f"surprise_{label}"].to_numpy()
        sum_DN = sums_before(day, item, value, num_days, num_items)
        statistics |= _nested_rates(label, sum_DN, num_DN, groups, smoothing)
    return statistics


def _nested_rates(
    task: str, sum_DN: np.ndarray, num_DN: np.ndarray, groups: Groups, m: float
) -> dict[str, np.ndarray]:
    """Smoothed surprise of tag, author within tag, and video within author, each [D, N]."""
    tag_DN = _group_sums(sum_DN, groups.tag_N) / (_group_sums(num_DN, groups.tag_N) + m)
    author_sum_DN = _group_sums(sum_DN, groups.author_N)
    author_DN = (author_sum_DN + m * tag_DN) / (_group_sums(num_DN, groups.author_N) + m)
    return {
        f"rate_tag_{task}": tag_DN,
        f"rate_author_{task}": author_DN,
        f"rate_{task}": (sum_DN + m * author_DN) / (num_DN + m),
    }


def _group_sums(value_DN: np.ndarray, group_N: np.ndarray) -> np.ndarray:
    """[D, N]: for each video the sum of `value_DN` over its group."""
    sums_GD = np.zeros((int(group_N.max()) + 1, value_DN.shape[0]))
    np.add.at(sums_GD, group_N, value_DN.T)
    return sums_GD.T[:, group_N]
