"""Settings of the data stage."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from enum import Enum

from recomind.errors import ConfigError


class DataSource(Enum):
    """Where sessions come from; lower case, since Hydra matches the names in YAML."""

    world = "world"
    kuairand = "kuairand"


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """How logs become sessions; everything below `root` is for `source=kuairand`."""

    source: DataSource = DataSource.world  # a world's collected logs, or KuaiRand's files
    root: str = ""  # folder that holds the raw files
    full_hash: bool = False  # hash every byte of the raw files, not a sample, size and time
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
        _require(
            self.session_gap_hours > 0, "data.session_gap_hours", self.session_gap_hours, "> 0"
        )
        _require(0 <= self.holdout_share < 1, "data.holdout_share", self.holdout_share, "in [0, 1)")
        _require(self.user_smoothing > 0, "data.user_smoothing", self.user_smoothing, "> 0")
        _require(self.item_smoothing > 0, "data.item_smoothing", self.item_smoothing, "> 0")
        _require(self.author_buckets >= 1, "data.author_buckets", self.author_buckets, ">= 1")
        for name in ("calibration_from", "test_from"):
            _require_day(name, getattr(self, name))
        if self.calibration_from and self.test_from and self.calibration_from >= self.test_from:
            raise ConfigError(
                "calibration must come before test",
                got=f"calibration_from={self.calibration_from}, test_from={self.test_from}",
            )


def _require(holds: bool, name: str, got: object, expected: str) -> None:
    if not holds:  # NaN fails every comparison, so it ends here too
        raise ConfigError(f"{name} is out of range", got=got, expected=expected)


def _require_day(name: str, text: str) -> None:
    try:
        canonical = datetime.date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        canonical = None
    if canonical != text:
        raise ConfigError(
            f"data.{name} is not a day", got=repr(text), expected="YYYY-MM-DD, or empty"
        )
