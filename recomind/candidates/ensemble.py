"""Ensemble (Thompson) exploration: act as one member, drawn for each decision.

Symbols: `E` members, `B` decisions, `K` slots of a pool, `K_b` candidates allowed in row `b`.

    E = 4 members, best slots 2, 2, 7, 2:    P(2) = .75 (1 - eps) + eps / K_b
                                             P(7) = .25 (1 - eps) + eps / K_b
                                             P(k) = eps / K_b elsewhere

If the members are draws from a posterior, this is Thompson sampling (Thompson, 1933;
Osband et al., "Deep exploration via bootstrapped DQN", NeurIPS 2016). The uniform floor is ours: a
candidate that no member prefers could otherwise never be judged off-policy.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.candidates.draws import fine_uniforms
from recomind.candidates.interface import Exploration, log_mixture
from recomind.candidates.slots import best_slot, check_pool, check_uniforms, slot_of_rank
from recomind.errors import SchemaError


class EnsembleExploration(Exploration):
    """Chooses the best candidate of a uniformly drawn member.

    Args:
        epsilon: probability of a uniform draw from the allowed candidates instead; with 0, only a
            candidate that is some member's best is ever chosen.
    """

    def choose(
        self,
        scores_BK: Tensor,
        allowed_BK: Tensor,
        uniforms_B4: Tensor,
        item_id_BK: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Exploration.choose`; the scores are [E, B, K]."""
        best_EB = _members_best(scores_BK, allowed_BK, item_id_BK)
        check_uniforms(uniforms_B4, len(allowed_BK))
        # One number serves both draws, as only one of them is used.
        fine_B, num_allowed_B = fine_uniforms(uniforms_B4[:, 1:3])[:, 0], allowed_BK.sum(1)
        slot_B = best_EB.gather(0, (fine_B * len(best_EB)).long()[None])[0]
        rows = (uniforms_B4[:, 0] < self.epsilon).nonzero()[:, 0]
        rank = (fine_B * num_allowed_B)[rows].long() + 1
        ids = None if item_id_BK is None else item_id_BK[rows]
        equal = torch.zeros_like(allowed_BK[rows], dtype=torch.float32)
        slot_B[rows] = slot_of_rank(rank, equal, allowed_BK[rows], ids)
        votes_B = (best_EB == slot_B).sum(0)
        return slot_B, self._log_propensity(votes_B, len(best_EB), num_allowed_B)

    def log_propensities(
        self, scores_BK: Tensor, allowed_BK: Tensor, item_id_BK: Tensor | None = None
    ) -> Tensor:
        """See `Exploration.log_propensities`; the scores are [E, B, K]."""
        best_EB = _members_best(scores_BK, allowed_BK, item_id_BK)
        votes_BK = torch.zeros(allowed_BK.shape, dtype=torch.int64, device=allowed_BK.device)
        votes_BK.scatter_add_(1, best_EB.T, torch.ones_like(best_EB.T))
        num_allowed_B1 = allowed_BK.sum(1, keepdim=True)
        log_BK = self._log_propensity(votes_BK, len(best_EB), num_allowed_B1)
        return log_BK.masked_fill(~allowed_BK, -torch.inf)

    def _log_propensity(self, votes: Tensor, num_members: int, num_allowed: Tensor) -> Tensor:
        share = votes.double() / num_members
        return log_mixture(-num_allowed.double().log(), share.log(), self.epsilon)


def _members_best(scores_EBK: Tensor, allowed_BK: Tensor, item_id_BK: Tensor | None) -> Tensor:
    """Slot [E, B] int64 of every member's best allowed candidate."""
    if scores_EBK.dim() != 3 or len(scores_EBK) == 0:
        raise SchemaError(
            "scores of an ensemble",
            got=tuple(scores_EBK.shape),
            expected="[E, B, K], E >= 1",
            mend="stack the members' scores, or choose another kind of exploration",
        )
    check_pool(scores_EBK.amax(0), allowed_BK, item_id_BK)  # a NaN of any member propagates
    num = len(scores_EBK)
    ids = None if item_id_BK is None else item_id_BK.repeat(num, 1)
    best = best_slot(scores_EBK.flatten(0, 1), allowed_BK.repeat(num, 1), ids)
    return best.unflatten(0, scores_EBK.shape[:2])
