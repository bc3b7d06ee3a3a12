"""Calibration curves: predicted against observed, in bins of equal count."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from recomind.errors import SchemaError


def calibration_curve(predicted: Tensor, observed: Tensor, num_bins: int = 10) -> dict[str, Any]:
    """Curve and expected calibration error of one task.

    Bins hold equal counts, so the top bin shows the items that a greedy policy would choose,
    however rare they are. The error is the mean over events of |observed - predicted| of their bin
    (Naeini, Cooper, Hauskrecht: "Obtaining well calibrated probabilities using Bayesian binning",
    AAAI 2015, with equal counts instead of equal widths).

    Args:
        predicted: [n] probabilities.
        observed: [n] bool, whether it happened.
        num_bins: bins; fewer where there are fewer events.

    Returns:
        `{bins: [{predicted, observed, n}], ece}`, bins from the lowest prediction to the highest.

    Raises:
        SchemaError: no events, shapes that differ, or predictions outside [0, 1].
    """
    if predicted.dim() != 1 or predicted.shape != observed.shape or len(predicted) == 0:
        raise SchemaError(
            "predictions and observations",
            got=f"{tuple(predicted.shape)} and {tuple(observed.shape)}",
            expected="both [n], n >= 1",
        )
    if not bool(((predicted >= 0) & (predicted <= 1)).all()):
        raise SchemaError("predictions are not probabilities", expected="each in [0, 1]")
    order = predicted.argsort(stable=True)
    pairs = torch.stack([predicted, observed]).double()[:, order]
    parts = pairs.tensor_split(min(num_bins, len(order)), dim=1)
    bins = [_bin(part) for part in parts]
    error = sum(abs(b["observed"] - b["predicted"]) * b["n"] for b in bins) / len(order)
    return {"bins": bins, "ece": error}


def _bin(part: Tensor) -> dict[str, Any]:
    """Means by exact summation: a tensor's own sum may differ in its last bit from run to run."""
    num = part.shape[1]
    predicted, observed = (math.fsum(row) / num for row in part.tolist())
    return {"predicted": predicted, "observed": observed, "n": num}
