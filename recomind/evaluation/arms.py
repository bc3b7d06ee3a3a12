"""The arms of a report, and those that tell where a lift comes from.

`policy` over `ranker` mixes two things: what was learned, and what the support constraint leaves to
choose from, which is worth something to a policy that has learned nothing (ADR 9). Two arms choose
inside the trained policy's support without its Q values: `ranker_in_support` by the frozen ranker's
utility, which is the policy at step 0, and `random_in_support` by chance. What the policy gains
over the first is learning (`rl_lift` in `report.json`).

A policy of `policy.support_keeps_ranker` may choose the ranker's first choice wherever that lies,
so that greedy ranking in its support would be the ranker itself. `ranker_in_support` may not. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recomind.candidates import SubsetExploration
from recomind.policy import GREEDY, QNetwork, RunningQ, ScoredPolicy, support_mask
from recomind.types import Candidates, CandidateSource, Policy, SessionState


@dataclass(kw_only=True, slots=True)
class Arm:
    """One column of the report."""

    policy: Policy
    candidates: CandidateSource
    only_in: str | None = None  # kind of environment that it can act in; None for all


class InSupport(ScoredPolicy):
    """Chooses among the candidates that the network's support covers, without its Q values.

    Args:
        network: the trained policy's; its constraint and its frozen ranker are used.
        by_chance: choose uniformly among all that the policy may choose, in place of by the
            ranker's utility among what the support covers.
    """

    def __init__(self, network: QNetwork, *, by_chance: bool = False) -> None:
        super().__init__(SubsetExploration(epsilon=1.0, subset_size=1) if by_chance else GREEDY)
        self.network, self._running = network, RunningQ(network)
        self._keeps_ranker = by_chance and network.config.support_keeps_ranker

    @torch.no_grad()
    def scored(self, state: SessionState, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """The frozen ranker's utility [B, K], and which candidates count [B, K]."""
        config = self.network.config
        encoding = self._running.encode_state(state)
        _, utility_BK = self._running.score_encoded(encoding, candidates.item_id)
        return utility_BK, support_mask(
            utility_BK,
            candidates.mask,
            config.support_ratio,
            self._running.log_density(encoding, candidates.item_id),
            config.support_density,
            keeps_ranker=self._keeps_ranker,
        )
