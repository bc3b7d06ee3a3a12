"""Settings that sources of logs share."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from recomind.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class WorldLogs:
    """Settings of `data=world`: its logs are collected, not read."""

    holdout_share: float = 0.2  # share of users kept for hold-out simulators

    def __post_init__(self) -> None:
        check_holdout(self.holdout_share)


def require_setting(holds: bool, name: str, got: object, expected: str) -> None:
    """Raise ConfigError unless `holds`; NaN fails every comparison, so it ends here too."""
    if not holds:
        raise ConfigError(f"data.{name} is out of range", got=got, expected=expected)


def check_holdout(share: float) -> None:
    """Raise ConfigError unless `share` is in [0, 1)."""
    require_setting(0 <= share < 1, "holdout_share", share, "in [0, 1)")


def check_days(calibration_from: str, test_from: str, prefix: str = "data.") -> None:
    """Raise ConfigError unless both are ISO days, or empty, in their order."""
    _require_day(f"{prefix}calibration_from", calibration_from)
    _require_day(f"{prefix}test_from", test_from)
    if calibration_from and test_from and calibration_from >= test_from:
        raise ConfigError(
            "calibration must come before test",
            got=f"calibration_from={calibration_from}, test_from={test_from}",
        )


def _require_day(name: str, text: str) -> None:
    try:
        canonical = datetime.date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        canonical = None
    if canonical != text:
        raise ConfigError(f"{name} is not a day", got=repr(text), expected="YYYY-MM-DD, or empty")
