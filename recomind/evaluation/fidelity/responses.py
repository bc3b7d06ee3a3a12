"""Response probabilities of later days: discrimination and calibration, task by task.

Symbols: `R` rows of the log, `H` tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from recomind.evaluation.fidelity.absent import absent
from recomind.evaluation.fidelity.logged import LoggedPredictions
from recomind.ranker import calibration_curve, roc_auc


def response_fidelity(
    predictions: LoggedPredictions, labels_RH: Tensor, tasks: Sequence[str], num_bins: int = 10
) -> dict[str, Any]:
    """Task -> `{n, rate, mean, sampled}`; the last two are each `{auc, ece, bins, average}`.

    `mean` is the gated probability without pessimism, `sampled` what sessions are drawn from: the
    second is meant to lie below what happened where more is better, so only the first is judged.
    """
    if len(labels_RH) == 0:
        return absent("no logged events of later days")
    return {
        task: {
            "n": len(labels_RH),
            "rate": float(labels_RH[:, h].double().mean()),
            "mean": _judged(predictions.mean_RH[:, h], labels_RH[:, h], num_bins),
            "sampled": _judged(predictions.sampled_RH[:, h], labels_RH[:, h], num_bins),
        }
        for h, task in enumerate(tasks)
    }


def _judged(p_R: Tensor, label_R: Tensor, num_bins: int) -> dict[str, Any]:
    curve = calibration_curve(p_R, label_R.bool(), num_bins)
    return {
        "auc": _auc(p_R, label_R),
        "ece": curve["ece"],
        "bins": curve["bins"],
        "average": float(p_R.double().mean()),
    }


def _auc(p_R: Tensor, label_R: Tensor) -> float | dict[str, Any]:
    label_R = label_R.long()
    if int(label_R.min()) == int(label_R.max()):
        return absent("labels of one kind only")
    return roc_auc(p_R.double(), label_R)
