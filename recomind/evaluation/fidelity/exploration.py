"""Exploring rows: the simulator on decisions that nobody made, and the confounding alarm.

A logger that knows more of the user than the state holds chooses items that will do well for a
reason that no model of the log can see. Where it explored by chance it could not, so a model that
is wrong in another way there than elsewhere has learned from confounded logs.

Symbols: `R` rows of the log, `H` tasks, `c` a cell of alike rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from scipy.special import ndtri
from torch import Tensor

from recomind.evaluation.fidelity.absent import absent

FEW = 100  # rows of either kind below which nothing is compared
_LOGGER_BINS, _RESPONSE_BINS = 20, 5
_LEVEL = 1e-4  # level of the alarm, shared out over the tasks (Bonferroni)
_SMALL = 0.1  # a difference in rates that raises no alarm, however certain


def confounding_alarm(
    p_RH: Tensor,
    labels_RH: Tensor,
    chance_R: Tensor,
    chosen_R: Tensor,
    logger_R: Tensor,
    user_R: Tensor,
    tasks: Sequence[str],
) -> dict[str, Any]:
    """Whether the logger's own choices did otherwise than like rows that chance showed.

    If the logger knew no more than the state, then among rows that it was as likely to choose,
    judged by the state and the item, having been chosen says nothing of the response (Rosenbaum
    and Rubin 1983). Rows are therefore compared inside cells c of equal logger's logit (20 bins)
    and equal prediction (5 bins), where both kinds overlap. With the residuals r = label - p,

        D = sum_c w_c (mean r of chosen in c - mean r of chance in c) / sum_c w_c,
        w_c = n_chosen n_chance / (n_chosen + n_chance)      (the weights of Cochran 1954)

    and z = D / sqrt(sum over users of (the user's influence on D)^2), since the rows of one user
    are not independent. The alarm is raised where |z| is beyond the normal quantile of level
    .0001 / H (two-sided) and |D| is above .1: both are strict since what the model of the logger
    misses counts as knowledge of the logger, and with enough logs is certain too. Ours.

    Args:
        p_RH: predictions without pessimism.
        labels_RH: responses.
        chance_R: [R] bool, from `exploring_rows`.
        chosen_R: [R] bool, from `exploring_rows`.
        logger_R: [R], from `logger_logits`.
        user_R: [R] int64.
        tasks: H names.

    Returns:
        `{raised, reason, threshold, n_exploring, n_chosen, tasks: {task: {difference, z}}}`, or
        why there is none; `raised` is False then.
    """
    rows = _overlap(logger_R, chance_R, chosen_R)
    counts = int((rows & chance_R).sum()), int((rows & chosen_R).sum())
    if min(counts) < FEW:
        reason = f"{counts[0]} exploring rows are like {counts[1]} chosen ones, {FEW} are needed"
        return absent(reason) | {"raised": False}
    logger_bin = _bins(logger_R[rows], _LOGGER_BINS)
    found = {
        task: _difference(
            labels_RH[rows, h] - p_RH[rows, h],
            logger_bin * _RESPONSE_BINS + _bins(p_RH[rows, h], _RESPONSE_BINS),
            chosen_R[rows],
            user_R[rows],
        )
        for h, task in enumerate(tasks)
    }
    threshold = float(ndtri(1.0 - _LEVEL / (2 * len(tasks))))
    guilty = [
        f"{task} ({v['difference']:+.3f}, z {v['z']:+.1f})"
        for task, v in found.items()
        if abs(v["z"]) > threshold and abs(v["difference"]) > _SMALL
    ]
    return {
        "raised": bool(guilty),
        "reason": _reason(guilty),
        "threshold": threshold,
        "n_exploring": counts[0],
        "n_chosen": counts[1],
        "tasks": found,
    }


def _overlap(logger_R: Tensor, chance_R: Tensor, chosen_R: Tensor) -> Tensor:
    """[R] bool: rows that either kind could be, the outer hundredth of each kind apart."""
    if not bool(chance_R.any()) or not bool(chosen_R.any()):
        return torch.zeros_like(chance_R)
    low = torch.quantile(logger_R[chosen_R], 0.01)
    high = torch.quantile(logger_R[chance_R], 0.99)
    return (chance_R | chosen_R) & (logger_R >= low) & (logger_R <= high)


def _bins(values_R: Tensor, num: int) -> Tensor:
    """[R] int64: bins of equal counts."""
    bin_R = torch.zeros(len(values_R), dtype=torch.int64)
    for number, part in enumerate(values_R.argsort(stable=True).tensor_split(num)):
        bin_R[part] = number
    return bin_R


def _difference(
    residual_R: Tensor, cell_R: Tensor, chosen_R: Tensor, user_R: Tensor
) -> dict[str, float]:
    """`{difference, z}` of one task."""
    residual_R, side_R = residual_R.double(), 2 * cell_R + chosen_R.long()
    size = 2 * (int(cell_R.max()) + 1)
    num = torch.bincount(side_R, minlength=size).double()
    total = torch.zeros(size, dtype=torch.float64).index_add_(0, side_R, residual_R)
    mean = total / num.clamp(min=1.0)
    n_c2, mean_c2 = num.reshape(-1, 2), mean.reshape(-1, 2)
    weight_c = n_c2.prod(1) / n_c2.sum(1).clamp(min=1.0)
    if float(weight_c.sum()) == 0.0:
        return {"difference": 0.0, "z": 0.0}
    weight_c = weight_c / weight_c.sum()
    difference = float((weight_c * (mean_c2[:, 1] - mean_c2[:, 0])).sum())
    sign_R = torch.where(chosen_R, 1.0, -1.0).double()
    influence_R = sign_R * weight_c[cell_R] / num[side_R] * (residual_R - mean[side_R])
    _, group = user_R.unique(return_inverse=True)
    by_user = torch.zeros(int(group.max()) + 1, dtype=torch.float64)
    error = float((by_user.index_add_(0, group, influence_R) ** 2).sum().sqrt())
    return {"difference": difference, "z": difference / error if error > 0 else 0.0}


def _reason(guilty: Sequence[str]) -> str:
    if not guilty:
        return "what the logger chose did no better and no worse than like rows shown by chance"
    return (
        "what the logger chose did otherwise than like rows shown by chance: "
        + ", ".join(guilty)
        + "; the logger may have known what the state does not hold"
    )
