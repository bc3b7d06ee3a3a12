"""Who answers: the policy, the ranker of a control group, or the ranker where the policy cannot."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from recomind.export import PolicyScorer
from recomind.export.scorer import order_slots
from recomind.policy import RankerPolicy
from recomind.serving.config import ServingConfig
from recomind.serving.scored import CONTROL, ERROR, LATE, POLICY, RANKER, Scored
from recomind.streams import hash_uniform
from recomind.types import Candidates, SessionState

_SALT_CONTROL = 97
_Ranked = tuple[Tensor, Tensor, Tensor]  # order, score and supported, each [B, K]

_log = logging.getLogger(__name__)


class Arms:
    """Scores batches, each request by the arm that it belongs to.

    A user is in the control group, or is not, for good: it goes by a hash of the user's id.

    Args:
        scorer: the policy, and the ranker inside it.
        config: `control_share`, `fall_back` and `policy_timeout_s`.
    """

    def __init__(self, scorer: PolicyScorer, config: ServingConfig) -> None:
        self.scorer, self.config = scorer, config
        network = scorer.network
        weights = dict(zip(network.tasks, network.weights_H.tolist(), strict=True))
        self._ranker = RankerPolicy([network.frozen], weights)
        self._late: Future[_Ranked] | None = None  # still running, though nobody waits for it
        self._threads = ThreadPoolExecutor(
            1, "policy", initializer=torch.set_num_threads, initargs=(config.num_threads,)
        )

    @torch.no_grad()
    def score(self, state: SessionState, pool: Candidates) -> Scored:
        """The candidates [B, K] of `state` [B] in order.

        Raises:
            Exception: whatever the policy raises, where `fall_back` is off.
        """
        control_B = hash_uniform(state.user_id, _SALT_CONTROL) < self.config.control_share
        ranked, reason = (None, "") if bool(control_B.all()) else self._by_policy(state, pool)
        arm = POLICY if ranked is not None else RANKER
        arms = [CONTROL if inside else arm for inside in control_B.tolist()]
        if ranked is None:
            ranked = self._by_ranker(state, pool)
        elif bool(control_B.any()):
            theirs, where = self._by_ranker(state, pool), control_B[:, None]
            ranked = tuple(t.where(where, o) for t, o in zip(theirs, ranked, strict=True))
        order, score, supported = ranked
        return Scored(
            pool=pool,
            order_BK=order,
            score_BK=score,
            supported_BK=supported,
            arms=arms,
            reasons=[reason if arm == RANKER else "" for arm in arms],
        )

    def _by_policy(self, state: SessionState, pool: Candidates) -> tuple[_Ranked | None, str]:
        """The policy's ranking; or none, and why."""
        try:
            if not self.config.policy_timeout_s:
                return self._ranked(state, pool), ""
            return self._in_time(state, pool), ""
        except Exception as failure:
            if not self.config.fall_back:
                raise
            reason = LATE if isinstance(failure, TimeoutError) else ERROR
            _log.error("the ranker answers in the policy's place: %s", reason, exc_info=failure)
            return None, reason

    def _in_time(self, state: SessionState, pool: Candidates) -> _Ranked:
        """Raise TimeoutError after `policy_timeout_s`, and at once while it still computes."""
        if self._late is not None and not self._late.done():
            raise TimeoutError("the policy is still at an earlier batch")
        self._late = self._threads.submit(self._ranked, state, pool)
        return self._late.result(self.config.policy_timeout_s)

    @torch.no_grad()
    def _ranked(self, state: SessionState, pool: Candidates) -> _Ranked:
        return self.scorer.rank_supported(state, pool.item_id, pool.mask)

    def _by_ranker(self, state: SessionState, pool: Candidates) -> _Ranked:
        utility, mask = self._ranker.scored(state, pool)
        order = order_slots(utility, mask, utility, pool.item_id, mask)
        return order, utility.masked_fill(~mask, -torch.inf), pool.mask
