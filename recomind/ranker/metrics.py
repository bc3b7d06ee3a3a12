"""How good predictions are: by task, by user, by position in the session, by known and new item.

AUC, log-loss and calibration error of equal-width bins go through torchmetrics; `ece` is the one
of `calibration_curve`, whose bins hold equal counts and so show the items a policy would choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from recomind.data import SessionDataset
from recomind.ranker.calibration import calibration_curve

_ECE_BINS = 15
_FEW = 30  # labels of either kind below which a group has no AUC
_POSITIONS = {"1": (0, 1), "2": (1, 2), "3-5": (2, 5), "6+": (5, 1 << 30)}


def quality(logits: Tensor, labels: Tensor, tasks: Sequence[str]) -> dict[str, float]:
    """AUC, log-loss (nats), calibration errors and positive rate by task, over logits [R, H].

    A task with labels of one kind only has no AUC and is left out.
    """
    from torchmetrics.functional.classification import binary_calibration_error

    metrics: dict[str, float] = {}
    for column, task in enumerate(tasks):
        p, y = logits[:, column].double().sigmoid(), labels[:, column].long()
        if len(y) == 0 or int(y.min()) == int(y.max()):
            continue
        clipped = p.clamp(1e-7, 1 - 1e-7)
        metrics[f"auc.{task}"] = roc_auc(p, y)
        loss = torch.nn.functional.binary_cross_entropy(clipped, y.double())
        metrics[f"log_loss.{task}"] = float(loss)
        metrics[f"ece.{task}"] = calibration_curve(p, y.bool(), _ECE_BINS)["ece"]
        metrics[f"ece_equal_width.{task}"] = float(binary_calibration_error(p, y, _ECE_BINS))
        metrics[f"rate.{task}"] = float(y.double().mean())
    return metrics


def roc_auc(score: Tensor, label: Tensor) -> float:
    """Area under the ROC curve of scores [R] for labels [R] int64 of both kinds."""
    # No process that only serves or simulates waits for the import.
    from torchmetrics.functional.classification import binary_auroc

    return float(binary_auroc(score, label))


def grouped_auc(score: Tensor, label: Tensor, group: Tensor) -> float | None:
    """GAUC: the AUC inside each group, weighted by its rows (Zhou et al., KDD 2018, section 5.3).

    Args:
        score: [R], of any scale.
        label: [R] in {0, 1}.
        group: [R], such as user ids; a group with labels of one kind is left out.

    Returns:
        The mean, or None where no group has labels of both kinds.
    """
    order = score.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]
    score, label, group = score[order].double(), label[order].double(), group[order]
    _, inverse, counts = torch.unique_consecutive(group, return_inverse=True, return_counts=True)
    first = (counts.cumsum(0) - counts)[inverse]
    rank = torch.arange(len(score)) - first + 1.0
    # Equal scores share their mean rank.
    tie = torch.ones(len(score), dtype=torch.bool)
    tie[1:] = (score[1:] != score[:-1]) | (inverse[1:] != inverse[:-1])
    of_tie = tie.cumsum(0) - 1
    num = torch.zeros(int(tie.sum()), dtype=torch.float64)
    ones = torch.ones_like(rank, dtype=torch.float64)
    size = num.clone().index_add_(0, of_tie, ones)
    rank = (num.index_add_(0, of_tie, rank.double()) / size)[of_tie]
    zeros = torch.zeros(len(counts), dtype=torch.float64)
    positives = zeros.clone().index_add_(0, inverse, label)
    above = zeros.index_add_(0, inverse, rank * label) - positives * (positives + 1) / 2
    pairs = positives * (counts - positives)
    kept = pairs > 0
    if not bool(kept.any()):
        return None
    weight = counts[kept].double()
    return float((above[kept] / pairs[kept] * weight).sum() / weight.sum())


def quality_report(
    logits: Tensor, labels: Tensor, tasks: Sequence[str], groups: Mapping[str, Tensor]
) -> dict[str, float]:
    """`quality`, GAUC by user, and AUC by group.

    Args:
        logits: [R, H], calibrated.
        labels: [R, H].
        tasks: H names.
        groups: from `report_groups`.

    Returns:
        `quality`'s figures, `gauc.<task>` and `auc.<task>.<group>`; a group with too few labels
        of either kind is left out.
    """
    report = quality(logits, labels, tasks)
    for column, task in enumerate(tasks):
        gauc = grouped_auc(logits[:, column], labels[:, column], groups["user"])
        if gauc is not None:
            report[f"gauc.{task}"] = gauc
        for name, rows in groups.items():
            if name == "user":
                continue
            y = labels[rows, column].long()
            if min(int(y.sum()), int((1 - y).sum())) >= _FEW:
                report[f"auc.{task}.{name}"] = roc_auc(logits[rows, column], y)
    return report


def report_groups(dataset: SessionDataset, rows: Tensor, seen_items: Tensor) -> dict[str, Tensor]:
    """What `quality_report` groups by: users, positions in the session, new and known items.

    Args:
        dataset: the sessions.
        rows: [R].
        seen_items: [N] bool, items with a training impression.
    """
    return {"user": dataset.user_id(rows)} | dict(_masks(dataset, rows, seen_items))


def _masks(
    dataset: SessionDataset, rows: Tensor, seen_items: Tensor
) -> Iterator[tuple[str, Tensor]]:
    position = dataset.position(rows)
    for name, (low, high) in _POSITIONS.items():
        yield f"position.{name}", (position >= low) & (position < high)
    known = seen_items[dataset.item_id(rows)]
    yield "known_items", known
    yield "new_items", ~known
