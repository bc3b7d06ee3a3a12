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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from omegaconf import MISSING

from recomind.data.config import check_days, check_holdout, require_setting
from recomind.data.scaling import standardised
from recomind.data.sources.interface import Logs
from recomind.data.sources.kuairand.files import RawKuaiRand, raw_files, read_files
from recomind.data.sources.kuairand.history import history_prior
from recomind.data.sources.kuairand.items import dated_features, kuairand_catalogue
from recomind.data.sources.kuairand.rates import DEPTHS, RATED, groups_of, with_surprise
from recomind.data.sources.kuairand.users import UTC_OFFSET_MS, user_features, with_user_rates
from recomind.errors import ConfigError, SchemaError
from recomind.streams import hash_uniform

TASKS = ("watch_10s", "long_view", "like", "hide")
_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_MIN_DAYS = 4  # train, calibration, and two of test


@dataclass(kw_only=True, slots=True)
class KuaiRand:
    """The official KuaiRand-Pure files of the folder `root`; a `LogSource`."""

    root: str = MISSING  # folder that holds the raw files
    session_gap_hours: float = 24.0  # hours of silence that start a new session
    treat_gap_as_end: bool = True  # a gap the log saw counts as leaving; not a causal end
    calibration_from: str = ""  # ISO day, Asia/Shanghai; empty: the day before `test_from`
    test_from: str = ""  # ISO day, Asia/Shanghai; empty: the last two days of the log
    holdout_share: float = 0.2  # share of users kept for hold-out simulators
    holdout_seed: int = 0  # selects which users those are
    use_history_file: bool = True  # read `history_before_4_25.parquet` where it exists
    user_smoothing: float = 5.0  # pseudo-events in a user's running rates
    item_smoothing: float = 20.0  # pseudo-events in an item's, author's and tag's rates
    author_buckets: int = 4096  # authors are hashed into this many ids, plus 0 for unknown

    def __post_init__(self) -> None:
        for name in ("session_gap_hours", "user_smoothing", "item_smoothing"):
            require_setting(getattr(self, name) > 0, name, getattr(self, name), "> 0")
        require_setting(self.author_buckets >= 1, "author_buckets", self.author_buckets, ">= 1")
        check_holdout(self.holdout_share)
        check_days(self.calibration_from, self.test_from)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Watched for 10 s, watched long, liked, hidden."""
        return TASKS

    @property
    def guarded(self) -> tuple[str, ...]:
        """A release may not raise hides."""
        return ("hide",)

    def utility(self, reward: Mapping[str, float]) -> dict[str, float]:
        """`reward`, or long watches where it is empty."""
        return dict(reward) or {"watch_10s": 1.0}

    def files(self) -> list[Path]:
        """All files of the folder that are read."""
        return raw_files(self.root)

    def read(self) -> Logs:
        """The events with task columns `TASKS`, and a catalogue with one snapshot a day."""
        raw = read_files(self.root, use_history_file=self.use_history_file)
        groups = groups_of(raw.videos)
        events = _events(raw.log, raw.videos)
        events = _with_sessions(events, self)
        events = events.with_columns(_split(events, self))
        train = events["split"] == "train"
        prior = history_prior(raw, self.user_smoothing, self.item_smoothing)
        events = with_user_rates(with_surprise(events), prior, self.user_smoothing)
        dense = dated_features(events, raw.videos, groups, prior, self.item_smoothing)
        beyond = _beyond_items(events, dense)
        features = user_features(beyond, raw.users, train, self.user_smoothing)
        features, user_scaling = standardised(features, train)
        catalogue, item_facts = kuairand_catalogue(
            dense, events.filter(train), raw.videos, groups, self.author_buckets
        )
        frame = _columns(events, raw.videos.height, self)
        return Logs(
            frame=frame.hstack(features.select(pl.all().name.prefix("u_"))),
            catalogue=catalogue,
            tasks=TASKS,
            facts=_facts(events, raw) | item_facts | {"user_scaling": user_scaling},
        )


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


def _with_sessions(events: pl.DataFrame, config: KuaiRand) -> pl.DataFrame:
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


def _split(events: pl.DataFrame, config: KuaiRand) -> pl.Series:
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


def _columns(events: pl.DataFrame, num_items: int, config: KuaiRand) -> pl.DataFrame:
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
