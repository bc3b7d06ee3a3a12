"""Intervals for those who look early: valid at every look at once.

An ordinary interval holds at one number of sessions that was fixed before; whoever looks again and
again and stops at a good look is wrong far more often than it says. A confidence sequence holds at
all numbers of sessions together.
"""

from __future__ import annotations

import math

from recomind.errors import ConfigError


def anytime_half_width(
    standard_deviation: float, num: int, *, planned: int, confidence: float = 0.95
) -> float:
    """Half-width of the asymptotic confidence sequence of a mean after `num` sessions.

    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: "Time-uniform central limit theory and asymptotic
    confidence sequences" (Annals of Statistics 2024, arXiv:2103.06476), theorem 2.2 and the choice
    of rho of its appendix: narrowest around `planned` sessions.

    Args:
        standard_deviation: of a session's effect.
        num: sessions so far; with fewer than some tens the normal approximation is rough.
        planned: sessions at which somebody most likely looks.
        confidence: over all looks together.

    Raises:
        ConfigError: no sessions, or a confidence outside (0, 1).
    """
    if num < 1 or planned < 1:
        raise ConfigError("sessions of an anytime interval", got=(num, planned), expected=">= 1")
    if not 0.0 < confidence < 1.0:
        raise ConfigError("confidence of an interval", got=confidence, expected="(0, 1)")
    alpha = 1.0 - confidence
    rho_2 = (-2.0 * math.log(alpha) + math.log(1.0 - 2.0 * math.log(alpha))) / planned
    grown = num * rho_2 + 1.0
    return (
        standard_deviation
        / num
        * math.sqrt(2.0 * grown / rho_2 * math.log(math.sqrt(grown) / alpha))
    )
