"""Settings of `recomind backtest`."""

from __future__ import annotations

from dataclasses import dataclass

from recomind.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class BacktestConfig:
    """Which windows of days a ranker learns from, and on what it is judged."""

    window_days: int = 3  # days that a ranker learns from; the last of them calibrates it
    max_windows: int = 5  # spread evenly over the log
    max_events: int = 50_000  # events that a window learns from, and that a day is judged on
    parts: int = 8  # a log without dates, such as a world's, is cut into so many "days"

    def __post_init__(self) -> None:
        bounds = {"window_days": 2, "max_windows": 1, "max_events": 100, "parts": 3}
        for name, least in bounds.items():
            if getattr(self, name) < least:
                raise ConfigError(
                    f"backtest.{name}", got=getattr(self, name), expected=f">= {least}"
                )
        if self.parts <= self.window_days:
            raise ConfigError(
                "backtest.parts leaves no day after a window",
                got=self.parts,
                expected=f"> backtest.window_days, {self.window_days}",
            )
