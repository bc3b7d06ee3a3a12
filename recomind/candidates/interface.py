"""The contract of an exploration: a choice among allowed candidates with its exact propensity.

Symbols: `B` decisions, `K` slots of a pool, `E` members of an ensemble.

    kind       chooses                                               P(slot)
    subset     eps: the best of m random candidates, else the best   [best](1-eps) + eps P(subset)
    uniform    eps: any candidate, else the best                     [best](1-eps) + eps / K_b
    softmax    eps: by Gumbel noise on the scores, else the best     [best](1-eps) + eps softmax
    ensemble   eps: any candidate, else a random member's best       (1-eps) votes / E + eps / K_b
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from recomind.candidates.config import check_epsilon


class Exploration(ABC):
    """Chooses one allowed slot for each decision.

    Item ids must differ among the allowed slots of a row, as those of a `CandidatePool` do; then
    nothing depends on the order of the pool.

    Args:
        epsilon: probability in [0, 1], see the table above. May be changed between calls, as an
            annealing schedule does.
    """

    def __init__(self, epsilon: float) -> None:
        check_epsilon(epsilon)
        self.epsilon = epsilon

    @abstractmethod
    def choose(
        self,
        scores_BK: Tensor,
        allowed_BK: Tensor,
        uniforms_B4: Tensor,
        item_id_BK: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Choose one allowed slot a row.

        Args:
            scores_BK: [B, K] float, for an ensemble [E, B, K]; only allowed slots count.
            allowed_BK: [B, K] bool, at least one True a row.
            uniforms_B4: [B, 4] in (0, 1): column 0 decides whether to explore, 1 and 2
                determine the draw.
            item_id_BK: [B, K] int64. Equal scores are ranked by ascending item id, so that the
                choice does not depend on the order of the pool; by slot where it is None.

        Returns:
            slot: [B] int64.
            log_propensity: [B] float32, exact log-probability of that slot given the pool.

        Raises:
            SchemaError: shapes disagree, an allowed score is NaN, or a row allows nothing.
        """

    @abstractmethod
    def log_propensities(
        self, scores_BK: Tensor, allowed_BK: Tensor, item_id_BK: Tensor | None = None
    ) -> Tensor:
        """The distribution that `choose` draws from, arguments and errors as there.

        Returns:
            [B, K] float32; -inf where a slot cannot be chosen, which is everywhere not allowed.
        """


def log_mixture(log_exploring: Tensor, log_exploiting: Tensor, epsilon: float) -> Tensor:
    """Log of `epsilon P + (1 - epsilon) Q` from log P and log Q [...], as float32, at most 0."""
    log_epsilon, log_rest = torch.tensor([epsilon, 1.0 - epsilon], dtype=torch.float64).log()
    exploring = log_exploring.double() + log_epsilon.to(log_exploring.device)
    exploiting = log_exploiting.double() + log_rest.to(log_exploiting.device)
    return torch.logaddexp(exploring, exploiting).clamp(max=0.0).float()


def log_certain(certain: Tensor) -> Tensor:
    """Log of the probability 1 where `certain` [...] is True and 0 elsewhere, float64."""
    return torch.where(certain, 0.0, -torch.inf).double()
