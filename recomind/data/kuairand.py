"""KuaiRand-Pure to sessions and a catalogue.

The data set keeps only exposures of about 7,600 pool videos, so what looks like the end of a
session is a gap in what was kept: `left` here says that nothing followed for `session_gap_hours`,
which is not a causal end, and a leave model fitted on it must say so.

`item_id` is the row of the video in the video table sorted by `video_id`: in the official
KuaiRand-Pure, whose ids are 0, 1, 2, ..., the two are equal.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import torch

from recomind.data.catalogue import TableCatalogue
from recomind.data.config import DataConfig
from recomind.data.kuairand_files import RawKuaiRand, read_files
from recomind.data.kuairand_history import history_prior
from recomind.data.kuairand_items import dated_features, kuairand_catalogue
from recomind.data.kuairand_rates import DEPTHS, RATED, groups_of, with_surprise
from recomind.data.kuairand_users import UTC_OFFSET_MS, user_features, with_user_rates
from recomind.data.scaling import standardised
from recomind.errors import ConfigError, SchemaError
from recomind.streams import hash_uniform

TASKS = ("watch_10s", "long_view", "like", "hide")
_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_MIN_DAYS = 4  # train, calibration, and two of test


def read_kuairand(config: DataConfig) -> tuple[pl.DataFrame, TableCatalogue, dict[str, Any]]:
    """Read the official KuaiRand-Pure files of `config.root`.

    Returns:
        The events as `recomind.data.sessions.SCHEMA` wants them, with task columns `TASKS`; the
        catalogue with one snapshot a day; and counts and scalings for the manifest.

    Raises:
        ConfigError: `root` is not a folder, or the days leave a split empty.
        SchemaError: a file, column or value is missing or wrong.
    """
    raw = read_files(config.root, use_history_file=config.use_history_file)
    groups = groups_of(raw.videos)
    events = _events(raw.log, raw.videos)
    events = _with_sessions(events, config)
    events = events.with_columns(_split(events, config))
    train = events["split"] == "train"
    prior = history_prior(raw, config.user_smoothing, config.item_smoothing)
    events = with_user_rates(with_surprise(events), prior, config.user_smoothing)
    dense = dated_features(events, raw.videos, groups, prior, config.item_smoothing)
    features = user_features(_beyond_items(events, dense), raw.users, train, config.user_smoothing)
    features, user_scaling = standardised(features, train)
    catalogue, item_facts = kuairand_catalogue(
        dense, events.filter(train), raw.videos, groups, config.author_buckets
    )
    frame = _columns(events, raw.videos.height, config)
    facts = _facts(events, raw) | item_facts | {"user_scaling": user_scaling}
    return frame.hstack(features.select(pl.all().name.prefix("u_"))), catalogue, facts


def _beyond_items(events: pl.DataFrame, dense: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """Events with `beyond_item_<task>`: surprise minus the video's rate on earlier days."""
    day, item = events["day"].to_numpy(), events["item_id"].to_numpy()
    return events.with_columns(
        (pl.col(f"surprise_{task}") - pl.Series(dense[f"rate_{task}"][day, item])).alias(
            f"beyond_item_{task}"
        )
        for task in RATED
    )


def _events(log: pl.DataFrame, videos: pl.DataFrame) -> pl.DataFrame:
    """The log in order, with its labels and days (`local_day` counts from 1970, `day` from 0)."""
    item_id = np.searchsorted(videos["video_id"].to_numpy(), log["video_id"].to_numpy())
    local_day = (pl.col("time_ms") + UTC_OFFSET_MS) // _DAY_MS
    return log.with_columns(
        *((pl.col("play_time_ms") > 1000 * s).cast(pl.UInt8).alias(n) for n, s in DEPTHS.items()),
        pl.Series("item_id", item_id, dtype=pl.Int64),
        local_day=local_day,
        day=local_day - local_day.min(),
        watch_10s=(pl.col("play_time_ms") > 10_000).cast(pl.UInt8),
        long_view=pl.col("long_view").cast(pl.UInt8),
        like=pl.col("is_like").cast(pl.UInt8),
        hide=pl.col("is_hate").cast(pl.UInt8),
        dwell_s=(pl.col("play_time_ms") / 1000).cast(pl.Float32),
        log_dwell=(pl.col("play_time_ms") / 1000).log1p(),
    ).sort("user_id", "time_ms", maintain_order=True)


def _with_sessions(events: pl.DataFrame, config: DataConfig) -> pl.DataFrame:
    """Events with session_id, position, left and left_known.

    Whether a user left after an event is known where the log goes on for a whole gap after it.
    Within the last gap nothing is: there a session that goes on would be seen and one that ended
    would not, and a hazard fitted on what is seen would come out too low.
    """
    gap_ms = int(config.session_gap_hours * _HOUR_MS)
    silence = pl.col("time_ms") - pl.col("time_ms").shift(1).over("user_id")
    is_start = silence.is_null() | (silence > gap_ms)
    events = events.with_columns(session_id=is_start.cum_sum().cast(pl.Int64) - 1)
    is_last = pl.col("session_id") != pl.col("session_id").shift(-1).fill_null(-1)
    is_seen = pl.col("time_ms") + gap_ms < pl.col("time_ms").max()
    ends = is_last & is_seen if config.treat_gap_as_end else pl.lit(False)
    return events.with_columns(
        position=pl.int_range(pl.len(), dtype=pl.Int32).over("session_id"),
        left=ends,
        left_known=is_seen & (~is_last | ends),
    )


def _split(events: pl.DataFrame, config: DataConfig) -> pl.Series:
    """[E] "train", "calibration" or "test", by the event's day."""
    days = events["local_day"].to_numpy()
    first_day, num_days = int(days.min()), int(days.max() - days.min()) + 1
    if num_days < _MIN_DAYS:
        raise SchemaError(
            "the log is too short to be split by time", got=f"{num_days} days", expected=_MIN_DAYS
        )
    test = _day_index(config.test_from, first_day, num_days - 2)
    calibration = _day_index(config.calibration_from, first_day, test - 1)
    day = pl.col("day")
    split = (
        pl.when(day >= test)
        .then(pl.lit("test"))
        .when(day >= calibration)
        .then(pl.lit("calibration"))
        .otherwise(pl.lit("train"))
    )
    column = events.select(split.alias("split"))["split"]
    absent = {"train", "calibration", "test"} - set(column.unique())
    if absent:
        last = _iso(first_day + num_days - 1)
        raise ConfigError(
            f"no events for {', '.join(sorted(absent))}",
            got=f"calibration_from={config.calibration_from!r}, test_from={config.test_from!r}",
            expected=f"days such that each split has some; the log has {_iso(first_day)} to {last}",
        )
    return column


def _day_index(text: str, first_day: int, default: int) -> int:
    if not text:
        return default
    return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days - first_day


def _iso(day: int) -> str:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()


def _columns(events: pl.DataFrame, num_items: int, config: DataConfig) -> pl.DataFrame:
    """The columns of the artifact, without the user features."""
    user = torch.from_numpy(events["user_id"].to_numpy().copy())
    holdout = (hash_uniform(user, config.holdout_seed) < config.holdout_share).numpy()
    is_random = pl.col("is_rand") == 1  # those were drawn uniformly from the whole pool
    return events.select(
        "session_id",
        "position",
        "user_id",
        "time_ms",
        "item_id",
        *TASKS,
        "dwell_s",
        "left",
        "left_known",
        "split",
        history_id=pl.col("user_id"),
        propensity=pl.when(is_random).then(pl.lit(1.0 / num_items)).cast(pl.Float64),
        holdout=pl.Series(holdout),
        snapshot=pl.col("day").cast(pl.Int32),
    )


def _facts(events: pl.DataFrame, raw: RawKuaiRand) -> dict[str, Any]:
    ends = events.filter(pl.col("left")).height
    sessions = events["session_id"].n_unique()
    return {
        "num_log_rows": raw.num_log_rows,
        "num_repeats_dropped": raw.num_repeats,
        "num_random_exposures": int(events["is_rand"].sum()),
        "num_censored_sessions": sessions - ends,
        "history_file_used": raw.history is not None,
        "attribution": "KuaiRand-Pure, Gao et al., CIKM 2022, CC BY-SA 4.0",
    }
