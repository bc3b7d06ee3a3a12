"""What answers requests: a scorer, a pool where there is one, and the check that both work."""

from __future__ import annotations

import logging
import math
import secrets
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from recomind.candidates import CandidatePool, make_exploration
from recomind.export import PolicyScorer
from recomind.serving.arms import Arms
from recomind.serving.company import CompanyNames
from recomind.serving.config import ServingConfig
from recomind.serving.decisions import DecisionLog
from recomind.serving.request import RankRequest, RequestSchema, states_of
from recomind.serving.scored import CONTROL, LATE, RANKER, Counts, Scored, decisions
from recomind.serving.shadow import Shadow
from recomind.streams import SessionStreams, draw_seeds, hash_int64
from recomind.types import Candidates, SessionState

_log = logging.getLogger(__name__)


class RankingEngine:
    """Answers requests for one scorer.

    Args:
        scorer: what ranks.
        config: limits.
        pool: where candidates come from for a request that brings none.
        identity: of the scorer's artifact.
        log: keeps what `recommend` decides, where it is wanted.
        names: translates a company's ids and features.
        catalogue: identity of the catalogue, for the log.
        shadow: is asked about every decision as well.
    """

    def __init__(
        self,
        scorer: PolicyScorer,
        config: ServingConfig,
        pool: CandidatePool | None = None,
        identity: str = "",
        log: DecisionLog | None = None,
        names: CompanyNames | None = None,
        catalogue: str = "",
        shadow: Shadow | None = None,
    ) -> None:
        self.scorer, self.pool, self.identity = scorer, pool, identity
        self.config, self.log, self._counts = config, log, Counts()
        self._catalogue, self._arms, self._shadow = catalogue, Arms(scorer, config), shadow
        self._exploration = make_exploration(config.exploration)
        self._generator = torch.Generator().manual_seed(secrets.randbits(63))
        self.schema = RequestSchema.of(scorer, config, has_pool=pool is not None, names=names)

    def status(self) -> dict[str, Any]:
        """What the service says of itself once it is ready."""
        return {
            "status": "ready",
            "scorer": self.identity,
            "released": self.scorer.released,
            "reasons": list(self.scorer.reasons),
        }

    def rank(self, requests: Sequence[RankRequest]) -> list[dict[str, Any]]:
        """Answers, one a request: item ids from best to worst, and their Q.

        The scores need not fall from place to place: items outside the policy's support
        constraint come after those inside, whatever their Q.
        """
        return [
            scored.answer(row, request, self.scorer.released, self.identity)
            for part, _, scored in self._in_parts(requests)
            for row, request in enumerate(part)
        ]

    def recommend(self, requests: Sequence[RankRequest]) -> list[dict[str, Any]]:
        """Answers as `rank`, whose first item is chosen by exploration, and logged."""
        answers, records = [], []
        for part, state, scored in self._in_parts(requests):
            begun = len(records)
            made = decisions(part, scored, self._exploration, self._streams(len(part)))
            for row, (request, (slot, log_propensity)) in enumerate(zip(part, made, strict=True)):
                answer = scored.answer(row, request, self.scorer.released, self.identity, slot)
                answer |= {
                    "decision_id": uuid.uuid4().hex,
                    "propensity": math.exp(log_propensity),
                    "explored": slot != int(scored.order_BK[row, 0]),
                }
                answers.append(answer)
                self._counts.explored += answer["explored"]
                if self.log is not None or self._shadow is not None:
                    records.append(
                        scored.record(row, request, answer, log_propensity, self._catalogue)
                    )
            if self._shadow is not None:
                self._shadow.ask(state, scored.pool, records[begun:])
        if self.log is not None and not self.log.append(records):
            self._counts.unlogged += len(records)
        return answers

    def take_counts(self) -> Counts:
        """What was done since this was last asked."""
        counts, self._counts = self._counts, Counts()
        if self._shadow is not None:
            counts.shadow = self._shadow.take_counts()
        return counts

    def close(self) -> None:
        """Close the logs."""
        for each in (self.log, self._shadow):
            if each is not None:
                each.close()

    def _streams(self, num: int) -> SessionStreams:
        return SessionStreams(draw_seeds(num, self._generator))

    def _in_parts(
        self, requests: Sequence[RankRequest]
    ) -> Iterator[tuple[Sequence[RankRequest], SessionState, Scored]]:
        size = self.schema.max_batch_size
        for begin in range(0, len(requests), size):
            part = requests[begin : begin + size]
            state = states_of(part, self.schema)
            scored = self._arms.score(state, self._candidates(part, state))
            self._counts.scored += len(part)
            self._counts.fallen_back += scored.arms.count(RANKER)
            self._counts.late += scored.reasons.count(LATE)
            self._counts.control += scored.arms.count(CONTROL)
            self._counts.best_scores += scored.score_BK.gather(1, scored.order_BK[:, :1])[
                :, 0
            ].tolist()
            yield part, state, scored

    def _candidates(self, requests: Sequence[RankRequest], state: SessionState) -> Candidates:
        """Pools [B, K]: the requests' own items, which are certain, or the pool's."""
        own = [request.item_ids for request in requests]
        chances: list[list[float]] = [[0.0] * len(ids or ()) for ids in own]
        rows = torch.tensor([r for r, ids in enumerate(own) if ids is None], dtype=torch.int64)
        if len(rows) and self.pool is not None:
            # The same user at the same step gets the same pool again, from any replica.
            streams = SessionStreams(hash_int64(state.user_id[rows]))
            drawn = self.pool.candidates(state[rows], streams)
            for place, row in enumerate(rows.tolist()):
                own[row] = drawn.item_id[place][drawn.mask[place]].tolist()
                chances[row] = drawn.log_propensity[place][drawn.mask[place]].tolist()
        width = max(len(ids or ()) for ids in own)
        item_id = torch.zeros(len(own), width, dtype=torch.int64)
        mask = torch.zeros(len(own), width, dtype=torch.bool)
        log_propensity = torch.zeros(len(own), width)
        for row, ids in enumerate(own):
            item_id[row, : len(ids or ())] = torch.tensor(ids or [], dtype=torch.int64)
            log_propensity[row, : len(ids or ())] = torch.tensor(chances[row])
            mask[row, : len(ids or ())] = True
        return Candidates(
            item_id=item_id, mask=mask, log_propensity=log_propensity, batch_size=[len(own)]
        )
