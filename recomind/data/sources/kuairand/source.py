"""KuaiRand (Pure, 1K and 27K have the same columns) as settings of `data=table`.

The data set keeps only exposures of about 7,600 pool videos, so what looks like the end of a
session is a gap in what was kept: `left` here says that nothing followed for `session_gap_hours`,
which is not a causal end, and a leave model fitted on it must say so.

`item_id` is the row of the video in the video table sorted by `video_id`: in the official
KuaiRand-Pure, whose ids are 0, 1, 2, ..., the two are equal.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from recomind.data.config import check_days, check_holdout, require_setting
from recomind.data.sources.interface import Logs
from recomind.data.sources.kuairand import columns
from recomind.data.sources.kuairand.files import checked_log, official_files, raw_files
from recomind.data.sources.settings import typed
from recomind.data.sources.table import TableLogs
from recomind.data.sources.table.engine import Scale

TASKS = tuple(columns.TASKS)


@dataclass(kw_only=True, slots=True)
class KuaiRand(Scale):
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
        Scale.__post_init__(self)
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

    @property
    def support_density(self) -> float:
        """Propensities are known of random exposures only."""
        return 0.0

    def utility(self, reward: Mapping[str, float]) -> dict[str, float]:
        """`reward`, or long watches where it is empty."""
        return dict(reward) or {"watch_10s": 1.0}

    def files(self) -> list[Path]:
        """All files of the folder that are read."""
        return raw_files(self.root)

    def read(self) -> Logs:
        """The events with task columns `TASKS`, and a catalogue with one snapshot a day."""
        log = checked_log(self.root, use_history_file=self.use_history_file)
        logs = self.table().read()
        logs.facts |= {
            "num_random_exposures": int(log["is_rand"].sum()),
            "attribution": "KuaiRand, Gao et al., CIKM 2022, CC BY-SA 4.0",
        }
        return logs

    def table(self) -> TableLogs:
        """The same files as settings of `data=table`."""
        files = official_files(self.root)
        videos = copy.deepcopy(columns.VIDEOS)
        videos["categories"]["author"]["buckets"] = self.author_buckets
        smoothing = {"user_smoothing": self.user_smoothing, "item_smoothing": self.item_smoothing}
        history = {"path": str(files.history), "optional": True, "use": self.use_history_file}
        settings = self.scale() | {
            "log": columns.LOG | {"path": [str(path) for path in files.logs]},
            "tasks": columns.TASKS,
            "context": ["tab"],
            "items": videos | {"path": str(files.videos)},
            "density": self.support_density,
            "users": columns.USERS | {"path": str(files.users)},
            "sessions": {
                "gap": f"{self.session_gap_hours * 3600:.3f}s",
                "gap_is_end": self.treat_gap_as_end,
            },
            "splits": {
                "calibration_from": self.calibration_from,
                "test_from": self.test_from,
                "holdout_share": self.holdout_share,
                "holdout_seed": self.holdout_seed,
            },
            "rates": columns.RATES | smoothing,
            "history": columns.HISTORY | history,
        }
        return typed(TableLogs, settings)
