"""What a ranker promises about its probabilities, checked on later logged impressions.

Symbols: `R` impressions, `H` tasks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from recomind.checks.asking import answer, encode
from recomind.data import SessionDataset
from recomind.errors import SchemaError
from recomind.findings import Finding, Level, finding
from recomind.ranker import calibration_curve
from recomind.streams import draw_rows
from recomind.types import Ranker

MAX_ROWS = 20_000  # a check is for every day; a benchmark takes them all
_MAX_ECE, _ECE_BINS = 0.05, 15
_SIGMAS = 2.0  # standard errors that count as noise
_CHUNK = 1024


def check_labels(
    ranker: Ranker, dataset: SessionDataset, generator: torch.Generator
) -> Iterator[Finding]:
    """Findings for each task on the later days of the log: inverted, random or biased."""
    unknown = [task for task in ranker.tasks if task not in dataset.tasks]
    if unknown:
        raise SchemaError(
            "tasks that the log does not have",
            got=unknown,
            expected=list(dataset.tasks),
            mend="name the ranker's outputs as the log names its labels",
        )
    rows = dataset.rows("calibration", "test")
    if len(rows) == 0:
        yield finding(Level.note, "no later days in the log, so probabilities were not checked")
        return
    rows = draw_rows(rows, MAX_ROWS, generator).sort().values
    logits_RH = _predict(ranker, dataset, rows)
    labels_RH = dataset.labels(rows)[:, [dataset.tasks.index(task) for task in ranker.tasks]]
    for column, task in enumerate(ranker.tasks):
        yield from _check_task(task, logits_RH[:, column], labels_RH[:, column].bool())


def _predict(ranker: Ranker, dataset: SessionDataset, rows: Tensor) -> Tensor:
    """Logits [R, H] of impressions, at their own snapshots."""
    parts = []
    for part in rows.split(_CHUNK):
        snapshot, where = dataset.snapshot(part), "on logged impressions"
        encoding = encode(ranker, dataset.state(part), where, snapshot)
        item_id = dataset.item_id(part)[:, None]
        parts.append(answer(ranker, encoding, item_id, where, snapshot[:, None])[:, 0])
    return torch.cat(parts)


def _check_task(task: str, logits_R: Tensor, labels_R: Tensor) -> Iterator[Finding]:
    from sklearn.metrics import roc_auc_score  # a second that only this check waits for

    num_positive, num = int(labels_R.sum()), len(labels_R)
    if num_positive in (0, num):
        what = f"{task!r} was not checked: its labels are all the same on later days"
        yield finding(Level.note, what, f"{num_positive} of {num}")
        return
    auc = float(roc_auc_score(labels_R.numpy(), logits_R.double().numpy()))
    judged = _judge_auc(task, auc, auc_standard_error(auc, num_positive, num - num_positive), num)
    yield judged
    if judged.level is Level.error:  # then it is not calibrated either, and that says nothing new
        return
    probability = logits_R.double().sigmoid()
    error = calibration_curve(probability, labels_R, _ECE_BINS)["ece"]
    if error > max(_MAX_ECE, _SIGMAS * ece_noise(probability)):
        yield finding(
            Level.warning,
            f"probabilities of {task!r} are not calibrated",
            f"an expected calibration error of {error:.3f}, mean probability "
            f"{float(probability.mean()):.3f}, rate {num_positive / num:.3f}",
            f"<= {_MAX_ECE}",
            mend="the utility is a sum of probabilities: `recomind train-ranker` calibrates them "
            "on later days",
        )


def _judge_auc(task: str, auc: float, error: float, num: int) -> Finding:
    got = f"AUC {auc:.3f} +- {error:.3f} over {num:,} later impressions"
    if auc + _SIGMAS * error < 0.5:
        return finding(
            Level.error,
            f"probabilities of {task!r} look inverted",
            got,
            "AUC > 0.5",
            mend="is it P(not the response), or another task's output? look at the order of tasks",
        )
    if auc - _SIGMAS * error <= 0.5:
        return finding(
            Level.warning,
            f"{task!r} is ranked no better than by chance",
            got,
            f"more than {_SIGMAS:g} standard errors above 0.5",
            mend="a longer log tells more; else look at what `inputs` returns",
        )
    return finding(Level.note, f"{task!r} is ranked", got)


def auc_standard_error(auc: float, num_positive: int, num_negative: int) -> float:
    """Standard error of an AUC.

    Hanley, McNeil: "The meaning and use of the area under a ROC curve", 1982, equation 2.

    >>> round(auc_standard_error(0.8, 50, 150), 4)
    0.0401
    """
    pairs = auc / (2.0 - auc), 2.0 * auc**2 / (1.0 + auc)
    spread = auc * (1.0 - auc)
    for count, pair in zip((num_positive, num_negative), pairs, strict=True):
        spread += (count - 1) * (pair - auc**2)
    return math.sqrt(max(spread, 0.0) / (num_positive * num_negative))


def ece_noise(probability_R: Tensor, num_bins: int = _ECE_BINS) -> float:
    """Expected calibration error of a perfectly calibrated model on so few rows; ours.

    The mean of |N(0, s)| is s sqrt(2 / pi), with s the standard error of a bin's rate.
    """
    parts = probability_R.sort().values.tensor_split(min(num_bins, len(probability_R)))
    noise = sum(float((p * (1 - p)).mean() * len(p)) ** 0.5 for p in parts) / len(probability_R)
    return math.sqrt(2.0 / math.pi) * noise
