"""Whether the logging policies knew something that the ranker does not.

The density holds a policy to what was shown. That is worth a lot where whoever showed it knew more
of the users than the ranker, and costs a lot where the ranker is the better judge: it then holds
the policy to the worse one. Logs with random exposures can tell. Ours.

Symbols: `R` rows of the log, `H` tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recomind.data import SessionDataset
from recomind.data.exploring import exploring_rows
from recomind.policy.config import PolicyConfig
from recomind.policy.density import LoggedDensity
from recomind.policy.density_fitting import density_inputs
from recomind.ranker import SessionRanker, predict, utility
from recomind.rewards import task_weights
from recomind.types import Ranker

_FEW = 100  # rows of random exposures below which nothing is said
_BATCH_ROWS = 1024


@torch.no_grad()
def density_evidence(
    density: LoggedDensity,
    own: SessionRanker,
    rankers: Sequence[Ranker],
    weights: Mapping[str, float],
    dataset: SessionDataset,
) -> dict[str, float]:
    """Whether items that chance showed did better than predicted where the logs favour them.

    Over the random exposures that no ranker was fitted to (later days, and hold-out users), the
    residual r = utility of the responses - that of the ensemble's mean rates is regressed on log g:

        b = cov(r, log g) / var(log g),    z = b / its standard error, clustered by user.

    The exposures are random, so that having been shown says nothing of the user. A positive b means
    that the logging policies chose by something that the ranker has missed.

    Args:
        density: fitted on the encodings of `own`.
        own: a ranker of ours.
        rankers: the ensemble.
        weights: task -> weight in the utility.
        dataset: all sessions.

    Returns:
        `{evidence_rows, evidence_z}`; without `evidence_z` where fewer than 100 rows are random
        exposures.
    """
    rows = torch.cat(
        [
            dataset.rows("calibration", "test", holdout=False),
            dataset.rows("train", "calibration", "test", holdout=True),
        ]
    )
    rows = rows[exploring_rows(dataset, rows)[0]]
    if len(rows) < _FEW:
        return {"evidence_rows": float(len(rows))}
    log_g_R = torch.cat([_log_g(density, own, dataset, part) for part in rows.split(_BATCH_ROWS)])
    z = _clustered_z(
        _residual(rankers, weights, dataset, rows).double(),
        log_g_R.double(),
        dataset.user_id(rows),
    )
    return {"evidence_rows": float(len(rows)), "evidence_z": z}


def constrains(config: PolicyConfig, evidence: Mapping[str, float]) -> bool:
    """Whether the density is part of the support.

    Args:
        config: `support_density` and `support_evidence`.
        evidence: from `density_evidence`; nothing is known where it has no `evidence_z`.
    """
    if config.support_density == 0.0:
        return False
    z = evidence.get("evidence_z")
    return config.support_evidence is None or z is None or z >= config.support_evidence


def _residual(
    rankers: Sequence[Ranker], weights: Mapping[str, float], dataset: SessionDataset, rows: Tensor
) -> Tensor:
    """[R]: utility of the responses less that of the ensemble's mean rates."""
    weights_H = task_weights(rankers[0].tasks, weights)
    predicted = [predict(ranker, dataset, rows) for ranker in rankers]
    expected_R = torch.stack([utility(logits_RH, weights_H) for logits_RH, _ in predicted]).mean(0)
    return predicted[0][1].float() @ weights_H - expected_R


def _log_g(
    density: LoggedDensity, own: SessionRanker, dataset: SessionDataset, rows: Tensor
) -> Tensor:
    """Log g [R] of what was shown."""
    item_R1 = dataset.item_id(rows)[:, None]
    return density(density_inputs(own, dataset, rows, item_R1)[:, 0])[:, 0]


def _clustered_z(residual_R: Tensor, log_g_R: Tensor, user_R: Tensor) -> float:
    """The slope over its standard error, of which the rows of a user are one observation."""
    residual_R = residual_R - residual_R.mean()
    log_g_R = log_g_R - log_g_R.mean()
    slope = (residual_R @ log_g_R) / (log_g_R @ log_g_R).clamp(min=1e-12)
    influence_R = (residual_R - slope * log_g_R) * log_g_R
    _, group = user_R.unique(return_inverse=True)
    by_user = torch.zeros(int(group.max()) + 1, dtype=torch.float64)
    spread = math.sqrt(float((by_user.index_add_(0, group, influence_R) ** 2).sum()))
    return float(residual_R @ log_g_R) / spread if spread > 0.0 else 0.0
