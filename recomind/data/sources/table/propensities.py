"""What the propensities of a log allow, on one line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from recomind.errors import ConfigError

ENOUGH = 0.95  # share of events that must have one for a density of the logs


@dataclass(kw_only=True, slots=True)
class Propensities:
    """How many of a log's events have one, and its range; events before the log are left out."""

    num_events: int = 0
    num_known: int = 0
    low: float = math.inf
    high: float = -math.inf

    @property
    def share(self) -> float:
        """What share of the events has one."""
        return self.num_known / max(self.num_events, 1)

    def add(self, shown: pl.Series) -> None:
        """Take in those of further events [E]."""
        self.num_events += len(shown)
        self.num_known += shown.count()
        if shown.count():
            self.low = min(self.low, float(shown.min()))  # pyright: ignore[reportArgumentType]
            self.high = max(self.high, float(shown.max()))  # pyright: ignore[reportArgumentType]

    def merge(self, other: Propensities) -> None:
        """Take in those of another part of the log."""
        self.num_events += other.num_events
        self.num_known += other.num_known
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


def note_on_propensities(chances: Propensities, support_density: float) -> str:
    """Which share of the events has one, and what follows from it.

    Args:
        chances: of the log.
        support_density: tau of the density of the logs; 0 for none.

    Raises:
        ConfigError: too few for the density of the logs that the config asks for.
    """
    known = chances.share
    if not known:
        return (
            "propensities: none, so there is no density of the logs to keep a policy near "
            "(policy.support_density), and confounding is not tested; name them in "
            "data.log.propensity"
        )
    said = (
        f"propensities: known for {known:.1%} of the events, {chances.low:.3g} to "
        f"{chances.high:.3g}"
    )
    if known < ENOUGH and support_density > 0:
        raise ConfigError(
            "too few propensities for a density of the logs",
            got=said,
            expected=f"at least {ENOUGH:.0%}",
            mend="set data.density=0, or complete data.log.propensity",
        )
    if known < ENOUGH:
        return f"{said}; too few for a density of the logs, and for a test of confounding"
    if chances.low == 1.0:
        return (
            f"{said}: nothing was left to chance, so that no test of confounding can tell much; is "
            "that the probability of the item, given what it was chosen from?"
        )
    return f"{said}; policy.support_density is on, and confounding is tested"
