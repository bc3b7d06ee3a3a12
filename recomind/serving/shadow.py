"""A scorer that is asked and not heard: what it would have shown is logged beside what was shown.

It has a thread of its own and a short queue: where it is slower than the service it is asked about
some of the decisions, and never holds up an answer.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from recomind.export import PolicyScorer
from recomind.serving.decisions import DecisionLog, DecisionRecord
from recomind.types import Candidates, SessionState

SHADOW = "shadow"  # the arm in its log
_QUEUED = 16  # batches

_log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class ShadowCounts:
    """What it was asked, for the metrics."""

    asked: int = 0  # decisions
    differing: int = 0  # requests where it would have shown another item first
    skipped: int = 0  # decisions that it had no time for


class Shadow:
    """Scores decisions that were answered, and logs what it would have answered.

    Args:
        scorer: the one that is tried.
        identity: of its artifact.
        log: gets a row for each decision, under the decision's own id.
    """

    def __init__(self, scorer: PolicyScorer, identity: str, log: DecisionLog) -> None:
        self.scorer, self.identity, self.log = scorer, identity, log
        self._counts, self._lock = ShadowCounts(), threading.Lock()
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(_QUEUED)
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def ask(self, state: SessionState, pool: Candidates, records: Sequence[DecisionRecord]) -> None:
        """Score the candidates [B, K] of decisions [B] some time later, or skip them."""
        try:
            self._waiting.put_nowait(lambda: self._score(state, pool, records))
        except queue.Full:
            with self._lock:
                self._counts.skipped += len(records)

    def take_counts(self) -> ShadowCounts:
        """What was done since this was last asked."""
        with self._lock:
            counts, self._counts = self._counts, ShadowCounts()
        return counts

    def close(self) -> None:
        """Finish what waits, and close the log."""
        self._waiting.put(None)
        self._thread.join()
        self.log.close()

    def _work(self) -> None:
        while (task := self._waiting.get()) is not None:
            try:
                task()
            except Exception as failure:  # the trial fails, and nobody's answer with it
                _log.error("the shadow scorer failed", exc_info=failure)

    @torch.no_grad()
    def _score(
        self, state: SessionState, pool: Candidates, records: Sequence[DecisionRecord]
    ) -> None:
        order_BK, score_BK, supported_BK = self.scorer.rank_supported(
            state, pool.item_id, pool.mask
        )
        rows = []
        for row, record in enumerate(records):
            inside = pool.mask[row]
            shown = pool.item_id[row, order_BK[row, : int(inside.sum())]].tolist()
            rows.append(
                replace(
                    record,
                    pool_score=score_BK[row][inside].tolist(),
                    pool_supported=supported_BK[row][inside].tolist(),
                    item_id=shown[0],
                    shown_item_id=shown[: len(record.shown_item_id)],
                    log_propensity=0.0,
                    explored=False,
                    arm=SHADOW,
                    reason="",
                    scorer=self.identity,
                )
            )
        self.log.append(rows)
        differing = sum(a.item_id != b.item_id for a, b in zip(rows, records, strict=True))
        with self._lock:
            self._counts.asked += len(rows)
            self._counts.differing += differing
