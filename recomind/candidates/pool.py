"""The pool of a decision: nearest items, fresh items, uniform draws from the whole catalogue.

Symbols: `B` decisions, `K` slots, `N` items, `F` fresh items, `R` recent events left out.

    slots of K = 8:   nearest nearest nearest | fresh | uniform uniform uniform uniform
    item_id              17      4      0     |  99   |   23      0       5       81
    mask                  T      F      T     |   T   |    T      F       T        T
                                 |                                |
                                 seen in the last R events        drawn twice: the first stays

The cost of a pool does not depend on N, except through the index.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from recomind.candidates.config import CandidatesConfig
from recomind.candidates.draws import (
    fine_uniforms,
    first_occurrence,
    log_miss,
    recent_items,
    uniform_items,
)
from recomind.candidates.duplicates import NearDuplicates
from recomind.errors import ConfigError, SchemaError
from recomind.streams import SessionStreams, make_generator
from recomind.types import Candidates, SessionState

LANE_POOL = 1  # random lane of the pool; the environments keep the other lanes
_PLANES = 0  # seed of the hash planes, the same in every process and in serving


class NearestItems(Protocol):
    """What the pool needs of `recomind.retrieval.Retrieval`."""

    num_items: int

    def nearest(self, state: SessionState, num: int) -> Tensor:
        """Item ids [B, num] int64, best first; -1 where there are fewer."""
        ...


@runtime_checkable
class ItemVectors(Protocol):
    """A retrieval that knows where items lie, by which near-duplicates are told."""

    def item_vectors(self, item_id: Tensor) -> Tensor:
        """Vectors [..., D] of `item_id` [...]."""
        ...


class CandidatePool:
    """A `CandidateSource` over a catalogue of any size.

    A catalogue of at most `K` items is its own pool. Slots that the nearest or the fresh items
    cannot fill, since there is no index or nothing fresh, go to uniform draws.

    Args:
        config: how the slots are shared out.
        num_items: `N`; ids are 0 .. N - 1.
        retrieval: finds the nearest items to a state.
        fresh_item_id: [F] int64, the newest items.
        lane: random lane of the sessions' streams.
    """

    def __init__(
        self,
        config: CandidatesConfig,
        num_items: int,
        retrieval: NearestItems | None = None,
        fresh_item_id: Tensor | None = None,
        *,
        lane: int = LANE_POOL,
    ) -> None:
        self.config, self.num_items, self.lane = config, num_items, lane
        self.retrieval = retrieval if config.num_nearest else None
        self._vectors = retrieval if isinstance(retrieval, ItemVectors) else None
        self._duplicates: NearDuplicates | None = None
        self._fresh_F = _checked_fresh(fresh_item_id, num_items)
        if num_items < 1:
            raise ConfigError("a catalogue without items", got=num_items, expected=">= 1")
        if retrieval is not None and retrieval.num_items != num_items:
            raise ConfigError(
                "index of another catalogue",
                got=f"{retrieval.num_items} items",
                expected=f"{num_items} items",
                mend="build the index from this catalogue",
            )
        self._num_near = config.num_nearest if self.retrieval is not None else 0
        self._num_fresh = config.num_fresh if len(self._fresh_F) else 0
        self._num_uniform = config.num_candidates - self._num_near - self._num_fresh

    def candidates(self, state: SessionState, streams: SessionStreams) -> Candidates:
        """Pools [B, K] for `state` [B].

        `log_propensity` is exact given the state and the index: 0 for a nearest item, and
        `1 - (1 - 1/N)^n (1 - 1/F)^f [fresh]` for any other, with n uniform and f fresh draws.
        It is 0 in padding slots, and an upper bound for items seen lately, which are let back
        only where nothing else came up, and where near-duplicates are left out: an item may give
        way to one that is close to it. Two pools for the same seeds and step are equal.
        """
        item_id_BK, num_certain = self._draw(state, streams)
        recent_BR = recent_items(state, self.config.exclude_recent)
        seen_BK = (item_id_BK[:, :, None] == recent_BR[:, None, :]).any(2)
        real_BK = (item_id_BK >= 0) & first_occurrence(item_id_BK)
        mask_BK = real_BK & ~seen_BK
        # A pool is never empty: where all was seen lately, what was seen is let back.
        mask_BK = torch.where(mask_BK.any(1, keepdim=True), mask_BK, real_BK)
        mask_BK = self._without_duplicates(item_id_BK, mask_BK)
        log_BK = self._log_inclusion(item_id_BK)
        log_BK[:, :num_certain] = 0.0
        return Candidates(
            item_id=item_id_BK.masked_fill(~mask_BK, 0),
            mask=mask_BK,
            log_propensity=log_BK.masked_fill(~mask_BK, 0.0),
            batch_size=[len(item_id_BK)],
        )

    def _draw(self, state: SessionState, streams: SessionStreams) -> tuple[Tensor, int]:
        """Item ids [B, K], -1 where there is none, and how many leading slots are certain."""
        batch, device = len(state.step), state.step.device
        if self.num_items <= self.config.num_candidates:
            slot_K = torch.arange(self.config.num_candidates, device=device)
            slot_K = torch.where(slot_K < self.num_items, slot_K, -1)
            return slot_K.repeat(batch, 1), len(slot_K)
        num_draws = self._num_fresh + self._num_uniform
        unit = fine_uniforms(streams.uniform(state.step, 2 * num_draws, self.lane))
        fresh_F = self._fresh_F.to(device)
        parts = [self._nearest(state)] if self._num_near else []
        if self._num_fresh:
            parts.append(fresh_F[uniform_items(unit[:, : self._num_fresh], len(fresh_F))])
        parts.append(uniform_items(unit[:, self._num_fresh :], self.num_items))
        return torch.cat(parts, dim=1), self._num_near

    def _nearest(self, state: SessionState) -> Tensor:
        """The `num_nearest` best [B, num_nearest] that were not seen lately; -1 for none."""
        assert self.retrieval is not None
        recent_BR = recent_items(state, self.config.exclude_recent)
        num = min(self._num_near + recent_BR.shape[1], self.num_items)
        found_BM = self.retrieval.nearest(state, num).to(state.step.device)
        seen_BM = (found_BM[:, :, None] == recent_BR[:, None, :]).any(2)
        unseen_first = seen_BM.to(torch.uint8).argsort(dim=1, stable=True)
        return found_BM.gather(1, unseen_first)[:, : self._num_near]

    def _without_duplicates(self, item_id_BK: Tensor, mask_BK: Tensor) -> Tensor:
        """The mask without what is close to an earlier item of its pool; never empty."""
        if not self.config.duplicate_cosine or self._vectors is None:
            return mask_BK
        vectors_BKD = self._vectors.item_vectors(item_id_BK.masked_fill(~mask_BK, 0))
        if self._duplicates is None:
            self._duplicates = NearDuplicates(
                self.config.duplicate_cosine, vectors_BKD.shape[2], make_generator(_PLANES)
            )
        return self._duplicates.keep(vectors_BKD, mask_BK)

    def _log_inclusion(self, item_id_BK: Tensor) -> Tensor:
        """[B, K] float32 log-probability that the draws bring each item in."""
        log_miss_BK = torch.full_like(
            item_id_BK, log_miss(self.num_items, self._num_uniform), dtype=torch.float64
        )
        if self._num_fresh:
            fresh_F = self._fresh_F.to(item_id_BK.device)
            place_BK = torch.searchsorted(fresh_F, item_id_BK).clamp(max=len(fresh_F) - 1)
            also = log_miss(len(fresh_F), self._num_fresh)
            log_miss_BK += torch.where(fresh_F[place_BK] == item_id_BK, also, 0.0)
        return (-torch.expm1(log_miss_BK)).log().float()


def _checked_fresh(fresh_item_id: Tensor | None, num_items: int) -> Tensor:
    """Distinct fresh ids in ascending order, [F] int64."""
    fresh = torch.zeros(0, dtype=torch.int64) if fresh_item_id is None else fresh_item_id
    fresh = fresh.long().unique()
    if len(fresh) and not 0 <= int(fresh[0]) <= int(fresh[-1]) < num_items:
        raise SchemaError(
            "fresh items outside the catalogue",
            got=f"{int(fresh[0])} .. {int(fresh[-1])}",
            expected=f"0 .. {num_items - 1}",
        )
    return fresh
