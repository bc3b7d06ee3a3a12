"""What a scorer said of a batch, as answers and as rows of the decision log."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from recomind.candidates import Exploration, GreedyChoice
from recomind.serving.decisions import DecisionRecord
from recomind.serving.request import UNKNOWN, RankRequest
from recomind.serving.shadow import ShadowCounts
from recomind.streams import SessionStreams
from recomind.types import Candidates

POLICY, RANKER, CONTROL = "policy", "ranker", "control"  # who answered
ERROR, LATE = "error", "late"  # why the ranker answered in the policy's place
_LANE = 11  # random lane: draws of an exploration in service


@dataclass(kw_only=True, slots=True)
class Counts:
    """What a replica did over one batch, for the metrics."""

    scored: int = 0  # requests
    fallen_back: int = 0  # answered by the ranker in the policy's place
    late: int = 0  # fallen back because the policy took too long
    control: int = 0  # answered by the ranker for the control group
    explored: int = 0  # shown something else than the best
    unlogged: int = 0  # decisions that the log could not take
    shadow: ShadowCounts | None = None  # counts of a scorer that is tried, where there is one
    best_scores: list[float] = field(default_factory=list)  # one a request


@dataclass(kw_only=True, slots=True)
class Scored:
    """Candidates of `B` requests in their order."""

    pool: Candidates  # [B, K]
    order_BK: Tensor  # [B, K] int64, slots from best to worst, padding last
    score_BK: Tensor  # [B, K] float32, by slot; -inf where the slot is padding
    supported_BK: Tensor  # [B, K] bool, inside the support constraint
    arms: list[str]  # [B] POLICY, CONTROL, or RANKER after a fall-back
    reasons: list[str]  # [B] ERROR or LATE after a fall-back, else ""

    def answer(
        self,
        row: int,
        request: RankRequest,
        released: bool,
        scorer: str,
        first: int | None = None,
    ) -> dict[str, Any]:
        """The JSON of one request; slot `first`, where given, is moved to the front."""
        slots = self.order_BK[row, : int(self.pool.mask[row].sum())].tolist()
        if first is not None:
            slots = [first, *(slot for slot in slots if slot != first)]
        if request.num is not None:
            slots = slots[: request.num]
        return {
            "item_ids": self.pool.item_id[row, slots].tolist(),
            "scores": self.score_BK[row, slots].tolist(),
            "released": released,
            "arm": self.arms[row],
            "reason": self.reasons[row],
            "scorer": scorer,
        }

    def record(
        self,
        row: int,
        request: RankRequest,
        answer: dict[str, Any],
        log_propensity: float,
        catalogue: str,
    ) -> DecisionRecord:
        """The row of the log for `answer`; `catalogue` is the identity of what its ids are of."""
        inside = self.pool.mask[row]
        history = [event for event in request.history if event.item_id != UNKNOWN]
        return DecisionRecord(
            decision_id=answer["decision_id"],
            request_id=request.request_id,
            time_ms=time.time_ns() // 1_000_000,
            session_id=request.session_id,
            user_id=request.user_id,
            step=request.step,
            gap_s=request.gap_s,
            user_features=request.user_features,
            history_item_id=[event.item_id for event in history],
            history_feedback=[event.feedback for event in history],
            history_dwell_s=[event.dwell_s for event in history],
            history_gap_s=[event.gap_s for event in history],
            pool_item_id=self.pool.item_id[row][inside].tolist(),
            pool_log_propensity=self.pool.log_propensity[row][inside].tolist(),
            pool_score=self.score_BK[row][inside].tolist(),
            pool_supported=self.supported_BK[row][inside].tolist(),
            item_id=answer["item_ids"][0],
            shown_item_id=answer["item_ids"],
            log_propensity=log_propensity,
            explored=answer["explored"],
            arm=answer["arm"],
            reason=answer["reason"],
            scorer=answer["scorer"],
            catalogue=catalogue,
        )


def decisions(
    requests: Sequence[RankRequest],
    scored: Scored,
    exploration: Exploration,
    streams: SessionStreams,
) -> list[tuple[int, float]]:
    """Slot and exact log-propensity of each request's choice; only the policy explores."""
    step_B = torch.tensor([request.step for request in requests], dtype=torch.int64)
    score_BK = scored.score_BK.masked_fill(~scored.pool.mask, 0.0)
    draws = streams.uniform(step_B, 4, _LANE)
    chosen = {
        explores: way.choose(score_BK, scored.supported_BK, draws, item_id_BK=scored.pool.item_id)
        for explores, way in ((True, exploration), (False, GreedyChoice()))
    }
    found = [
        (int(slot_B[row]), float(log_propensity_B[row]))
        for row, arm in enumerate(scored.arms)
        for slot_B, log_propensity_B in [chosen[arm == POLICY]]
    ]
    assert all(math.isfinite(chance) for _, chance in found)
    return found
