"""Policies: the ranker, its ensemble, a random one, and the trained Q network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from recomind.candidates import Exploration, SubsetExploration, best_slot
from recomind.incremental import RunningEncodings
from recomind.policy.finite import require_finite_logits, require_finite_q
from recomind.policy.network import QNetwork
from recomind.policy.running import RunningQ
from recomind.policy.support import support_mask, supported_values
from recomind.ranker import tasks_of, utility
from recomind.rewards import task_weights
from recomind.streams import hash_uniform
from recomind.types import Candidates, Decision, Ranker, SessionState


def decide(
    scores_BK: Tensor,
    allowed_BK: Tensor,
    candidates: Candidates,
    uniforms: Tensor,
    exploration: Exploration,
) -> Decision:
    """Choose among the allowed candidates by an exploration; ties are broken by item id.

    Scores are [B, K]; for exploration by an ensemble [E, B, K].
    """
    slot, log_propensity = exploration.choose(
        scores_BK, allowed_BK, uniforms, item_id_BK=candidates.item_id
    )
    return Decision(
        slot=slot,
        item_id=candidates.item_id.gather(1, slot[:, None])[:, 0],
        log_propensity=log_propensity,
        batch_size=[len(slot)],
    )


GREEDY = SubsetExploration(epsilon=0.0, subset_size=1)
_SALT_HALF = 43


class ScoredPolicy(ABC):
    """A policy that scores candidates and chooses among the allowed ones by an exploration."""

    def __init__(self, exploration: Exploration = GREEDY) -> None:
        self.exploration = exploration

    @abstractmethod
    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Scores [B, K] and which candidates are allowed [B, K]."""

    @torch.no_grad()
    def act(self, state: SessionState, candidates: Candidates, uniforms: Tensor) -> Decision:
        """One candidate a session."""
        scores, allowed = self.scored(state, candidates)
        return decide(scores, allowed, candidates, uniforms, self.exploration)


class RankerPolicy(ScoredPolicy):
    """Maximises the utility of one ranker, or the mean utility of several."""

    def __init__(
        self,
        rankers: Sequence[Ranker],
        reward_weights: Mapping[str, float],
        exploration: Exploration = GREEDY,
    ) -> None:
        super().__init__(exploration)
        self.rankers = list(rankers)
        self._encodings = RunningEncodings(self.rankers)
        self.weights_H = task_weights(tasks_of(rankers), reward_weights)

    @torch.no_grad()
    def scores(self, state: SessionState, item_id: Tensor) -> Tensor:
        """Mean utility [B, K]."""
        return self._scores(state, item_id, torch.ones_like(item_id, dtype=torch.bool))

    def clear_cache(self) -> None:
        """Drop cached encodings, so that what follows depends on the next states alone."""
        self._encodings.clear_cache()

    @torch.no_grad()
    def member_scores(self, state: SessionState, candidates: Candidates) -> Tensor:
        """Utility [E, B, K] by each ranker, for exploration by an ensemble."""
        return torch.stack(list(self._members(state, candidates.item_id, candidates.mask)))

    def _scores(self, state: SessionState, item_id: Tensor, mask_BK: Tensor) -> Tensor:
        total = torch.zeros(item_id.shape)
        for utility_BK in self._members(state, item_id, mask_BK):
            total += utility_BK
        return total / len(self.rankers)

    def _members(self, state: SessionState, item_id: Tensor, mask_BK: Tensor) -> Iterator[Tensor]:
        encodings = self._encodings.encode_state(state)
        for member, (ranker, encoding) in enumerate(zip(self.rankers, encodings, strict=True)):
            logits_BKH = ranker.score(encoding, item_id)
            require_finite_logits(logits_BKH, mask_BK, ranker.tasks, state.step, member)
            yield utility(logits_BKH, self.weights_H)

    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Mean utility [B, K]; every candidate of the pool is allowed."""
        return self._scores(state, candidates.item_id, candidates.mask), candidates.mask


class QPolicy(ScoredPolicy):
    """Maximises Q inside the support of the ranker and, if configured, of the logs.

    Args:
        network: Q, utility and, where `support_density` is above 0, the density of the logs.
        exploration: how it explores.
        explores_beyond_logs: an exploring decision may choose items that the logs do not cover; the
            best item that they cover stays the first choice. A policy that never left the support
            of its logs would log ever narrower data, to which the next ranker, which acts on whole
            pools, is fitted. Ours.
    """

    def __init__(
        self,
        network: QNetwork,
        exploration: Exploration = GREEDY,
        *,
        explores_beyond_logs: bool = False,
    ) -> None:
        super().__init__(exploration)
        self.network, self._running = network, RunningQ(network)
        self.explores_beyond_logs = explores_beyond_logs

    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Q [B, K], and the candidates inside the support.

        When exploring beyond the logs, everything that the ranker supports is allowed too, and the
        best candidate of the whole support gets the top score, so that rank 1 is the greedy choice.
        """
        ratio = self.network.config.support_ratio
        values = supported_values(self._running, state, candidates.item_id, candidates.mask, ratio)
        require_finite_q(values.q_BK, values.utility_BK, candidates.mask, state.step)
        if not self.explores_beyond_logs:
            return values.q_BK, values.allowed_BK
        best_B = best_slot(values.q_BK, values.allowed_BK, candidates.item_id)
        wide_BK = support_mask(values.utility_BK, candidates.mask, ratio)
        allowed_BK = wide_BK | values.allowed_BK  # whose best may be far below the ranker's
        return values.q_BK.scatter(1, best_B[:, None], torch.inf), allowed_BK


class RandomPolicy(ScoredPolicy):
    """Uniform over the pool."""

    def __init__(self) -> None:
        super().__init__(SubsetExploration(epsilon=1.0, subset_size=1))

    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Equal scores [B, K]; every candidate of the pool is allowed."""
        return torch.zeros(candidates.item_id.shape), candidates.mask


class MixedExploration:
    """Half of the users explore more and half less, by a hash of their id.

    A deployed policy keeps its logs useful in this way; every propensity stays exact.
    """

    def __init__(self, policy: ScoredPolicy, more: Exploration, less: Exploration) -> None:
        self.policy, self.more, self.less = policy, more, less

    @torch.no_grad()
    def act(self, state: SessionState, candidates: Candidates, uniforms: Tensor) -> Decision:
        """One candidate a session."""
        scores, allowed = self.policy.scored(state, candidates)
        more, less = (
            decide(scores, allowed, candidates, uniforms, exploration)
            for exploration in (self.more, self.less)
        )
        first = hash_uniform(state.user_id, _SALT_HALF) < 0.5
        return Decision(
            slot=torch.where(first, more.slot, less.slot),
            item_id=torch.where(first, more.item_id, less.item_id),
            log_propensity=torch.where(first, more.log_propensity, less.log_propensity),
            batch_size=[len(first)],
        )
