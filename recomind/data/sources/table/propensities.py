"""What the propensities of a log allow, on one line."""

from __future__ import annotations

import polars as pl

from recomind.errors import ConfigError

ENOUGH = 0.95  # share of events that must have one for a density of the logs


def note_on_propensities(events: pl.DataFrame, support_density: float) -> str:
    """Which share of the events has one, and what follows from it.

    Args:
        events: of the log; those before it have a negative position.
        support_density: tau of the density of the logs; 0 for none.

    Raises:
        ConfigError: too few for the density of the logs that the config asks for.
    """
    shown = events.filter(pl.col("position") >= 0)
    known = shown["propensity"].count() / max(shown.height, 1)
    if not known:
        return (
            "propensities: none, so there is no density of the logs to keep a policy near "
            "(policy.support_density), and confounding is not tested; name them in "
            "data.log.propensity"
        )
    low, high = shown["propensity"].min(), shown["propensity"].max()
    said = f"propensities: known for {known:.1%} of the events, {low:.3g} to {high:.3g}"
    if known < ENOUGH and support_density > 0:
        raise ConfigError(
            "too few propensities for a density of the logs",
            got=said,
            expected=f"at least {ENOUGH:.0%}",
            mend="set data.density=0, or complete data.log.propensity",
        )
    if known < ENOUGH:
        return f"{said}; too few for a density of the logs, and for a test of confounding"
    return f"{said}; policy.support_density is on, and confounding is tested"
