"""Policies: the ranker, its ensemble, a random one, and the trained Q network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recomind.candidates import SubsetExploration
from recomind.policy.network import QNetwork, support_mask
from recomind.ranker import utility
from recomind.simulation.environment import task_weights
from recomind.types import Candidates, Decision, Ranker, SessionState


def decide(
    scores_BK: Tensor,
    allowed_BK: Tensor,
    candidates: Candidates,
    uniforms: Tensor,
    exploration: SubsetExploration,
) -> Decision:
    """Choose by exploration among the allowed candidates; ties go by item id."""
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


class RankerPolicy:
    """Maximises the utility of one ranker, or the mean utility of several."""

    def __init__(
        self,
        rankers: Sequence[Ranker],
        reward_weights: Mapping[str, float],
        exploration: SubsetExploration = GREEDY,
    ) -> None:
        self.rankers, self.exploration = list(rankers), exploration
        self.weights_H = task_weights(rankers[0].tasks, reward_weights)

    @torch.no_grad()
    def scores(self, state: SessionState, item_id: Tensor) -> Tensor:
        """Mean utility [B, K]."""
        total = torch.zeros(item_id.shape)
        for ranker in self.rankers:
            total += utility(ranker.score(ranker.encode_state(state), item_id), self.weights_H)
        return total / len(self.rankers)

    def act(self, state: SessionState, candidates: Candidates, uniforms: Tensor) -> Decision:
        """One candidate a session."""
        scores = self.scores(state, candidates.item_id)
        return decide(scores, candidates.mask, candidates, uniforms, self.exploration)


class QPolicy:
    """Maximises Q inside the support of the ranker, exploring by candidate subsets."""

    def __init__(self, network: QNetwork, exploration: SubsetExploration = GREEDY) -> None:
        self.network, self.exploration = network, exploration

    @torch.no_grad()
    def act(self, state: SessionState, candidates: Candidates, uniforms: Tensor) -> Decision:
        """One candidate a session."""
        q_BK, utility_BK = self.network.q_values(state, candidates.item_id)
        allowed = support_mask(utility_BK, candidates.mask, self.network.config.support_ratio)
        return decide(q_BK, allowed, candidates, uniforms, self.exploration)


class RandomPolicy:
    """Uniform over the pool."""

    exploration = SubsetExploration(epsilon=1.0, subset_size=1)

    def act(self, state: SessionState, candidates: Candidates, uniforms: Tensor) -> Decision:
        """One candidate a session."""
        scores = torch.zeros(candidates.item_id.shape)
        return decide(scores, candidates.mask, candidates, uniforms, self.exploration)


class MixedExploration:
    """Half of the sessions act with one policy, half with another, by a hash of the user.

    What a deployed policy does to keep its logs useful: half explores more, half less.
    """

    def __init__(self, more: RankerPolicy | QPolicy, less: RankerPolicy | QPolicy) -> None:
        self.more, self.less = more, less

    def act(self, state: SessionState, candidates: Candidates, uniforms: Tensor) -> Decision:
        """One candidate a session."""
        more = self.more.act(state, candidates, uniforms)
        less = self.less.act(state, candidates, uniforms)
        first = (state.user_id & 1).bool()
        return Decision(
            slot=torch.where(first, more.slot, less.slot),
            item_id=torch.where(first, more.item_id, less.item_id),
            log_propensity=torch.where(first, more.log_propensity, less.log_propensity),
            batch_size=[len(first)],
        )
