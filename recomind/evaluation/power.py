"""What so many sessions can show, said before they run; and what is known before a session.

Symbols: `S` sessions, `C` covariates.
"""

from __future__ import annotations

import math

import torch
from scipy.special import ndtri
from torch import Tensor

from recomind.errors import ConfigError, SchemaError
from recomind.evaluation.statistics import Lift

POWER = 0.8  # probability of finding an effect of the minimum detectable size


def detectable_effect(half_width: float, num_pilot: int, num: int, confidence: float) -> float:
    """Smallest lift that `num` sessions find four times in five.

    (z_{1 - alpha / 2} + z_{power}) standard errors (Bloom: "Minimum Detectable Effects", 1995).

    Args:
        half_width: of the lift's interval in a pilot.
        num_pilot: sessions of the pilot.
        num: sessions of the run.
        confidence: of both intervals.
    """
    if min(num_pilot, num) < 2:
        raise ConfigError("sessions", got=(num_pilot, num), expected=">= 2")
    z = float(ndtri(0.5 + confidence / 2))
    error = half_width / z * math.sqrt(num_pilot / num)
    return (z + float(ndtri(POWER))) * error


def power_note(lift: Lift, num: int, confidence: float, asked: float) -> str:
    """The sentence of a pilot: what the run can find, and a warning where that is too little."""
    if lift.low is None or lift.high is None:
        return "the pilot has no interval: what the run can find is unknown"
    effect = detectable_effect((lift.high - lift.low) / 2, lift.n, num, confidence)
    note = f"{num:,} sessions find a lift of {effect:.1%} or more four times in five"
    if asked > 0.0 and effect > asked:
        needed = math.ceil(num * (effect / asked) ** 2)
        note += f"; warning: the gate asks for {asked:.1%}, which takes some {needed:,} sessions"
    return note


def cuped(values_S: Tensor, before_SC: Tensor, mean_C: Tensor | None = None) -> Tensor:
    """[S] values without what was known before the session, with the same mean but for luck.

    Deng, Xu, Kohavi, Walker: "Improving the Sensitivity of Online Controlled Experiments by
    Utilizing Pre-Experiment Data" (WSDM 2013), by least squares on several covariates. For arms of
    *different* users, such as a real A/B test: give both arms one `mean_C`. Paired arms meet the
    same users, whose covariates cancel in the difference, so that nothing is left to take out.

    Args:
        values_S: what a session came to.
        before_SC: what was known of it before.
        mean_C: the covariates' mean in both arms together; this arm's own where None, which leaves
            the mean as it is and takes out the spread alone.

    Raises:
        SchemaError: lengths differ, or a covariate is not finite.
    """
    if before_SC.dim() != 2 or len(before_SC) != len(values_S):
        got = (tuple(values_S.shape), tuple(before_SC.shape))
        raise SchemaError("covariates of sessions", got=got, expected="[S] and [S, C]")
    if not bool(torch.isfinite(before_SC).all()):
        raise SchemaError("a covariate is not a finite number")
    y_S, x_SC = values_S.double(), before_SC.double()
    centred_SC = x_SC - x_SC.mean(0)
    theta_C = torch.linalg.lstsq(centred_SC, (y_S - y_S.mean())[:, None], driver="gelsd").solution[
        :, 0
    ]
    mean_C = x_SC.mean(0) if mean_C is None else mean_C.double()
    return y_S - (x_SC - mean_C) @ theta_C
