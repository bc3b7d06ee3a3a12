"""How far two empirical distributions are apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from recomind.evaluation.fidelity.absent import absent
from recomind.evaluation.fidelity.survival import kaplan_meier

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def ks_statistic(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference of two empirical distribution functions (Kolmogorov, Smirnov).

    >>> ks_statistic(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    1.0
    """
    values = np.concatenate([first, second])
    ours, theirs = (
        np.searchsorted(np.sort(sample), values, side="right") / len(sample)
        for sample in (first, second)
    )
    return float(np.abs(ours - theirs).max())


def value_fidelity(logged: np.ndarray, simulated: np.ndarray) -> dict[str, Any]:
    """`{ks, n_logged, n_simulated, quantiles}` of two samples of numbers."""
    if len(logged) == 0 or len(simulated) == 0:
        return absent("no events to compare")
    return {
        "ks": ks_statistic(logged, simulated),
        "n_logged": len(logged),
        "n_simulated": len(simulated),
        "quantiles": {
            "levels": list(QUANTILES),
            "logged": np.quantile(logged, QUANTILES).tolist(),
            "simulated": np.quantile(simulated, QUANTILES).tolist(),
        },
    }


def length_fidelity(
    logged_depth_S: Tensor,
    logged_left_S: Tensor,
    simulated_depth_S: Tensor,
    simulated_left_S: Tensor,
    horizon: int,
) -> dict[str, Any]:
    """Session lengths in events, by Kaplan-Meier, since some ends are censored.

    Returns:
        `{ks, n_logged, n_simulated, quantiles, logged, simulated}`: `ks` is the largest difference
        of the two survival curves (the Kolmogorov-Smirnov statistic where nothing is censored), a
        quantile is None where it lies beyond the horizon or the censoring.
    """
    if not bool(logged_left_S.any()):
        return absent("the end of every logged session is censored")
    if not bool(simulated_left_S.any()):
        return absent("nobody leaves in the simulator")
    logged = kaplan_meier(logged_depth_S, logged_left_S, horizon)
    simulated = kaplan_meier(simulated_depth_S, simulated_left_S, horizon)
    common = min(len(logged), len(simulated))
    if common == 0:
        return absent("no event whose outcome is known for those who stayed")
    return {
        "ks": float((logged[:common] - simulated[:common]).abs().max()),
        "n_logged": len(logged_depth_S),
        "n_simulated": len(simulated_depth_S),
        "quantiles": {
            "levels": list(QUANTILES),
            "logged": [_quantile(logged, level) for level in QUANTILES],
            "simulated": [_quantile(simulated, level) for level in QUANTILES],
        },
        "logged": logged.tolist(),
        "simulated": simulated.tolist(),
    }


def _quantile(survival_T: Tensor, level: float) -> int | None:
    """Fewest events after which a share of `level` has left."""
    reached = (survival_T <= 1.0 - level + 1e-12).nonzero()
    return int(reached[0, 0]) + 1 if len(reached) else None
