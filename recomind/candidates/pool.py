"""The pool of a decision: nearest, generated and fresh items, and draws from the whole catalogue.

Symbols: `B` decisions, `K` slots, `N` items, `F` fresh items, `R` recent events left out.

    slots of K = 8:   nearest nearest nearest | generated | fresh | random random random
    item_id              17      4      0     |    31     |  99   |   23      0      81
    mask                  T      F      T     |     T     |   T   |    T      F       F
                                 |                                            |       |
                    seen in the last R events       drawn twice: the first stays   withdrawn

The cost of a pool does not depend on N, except through the index.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from recomind.candidates.config import CandidatesConfig
from recomind.candidates.draws import fine_uniforms, recent_items
from recomind.candidates.duplicates import NearDuplicates
from recomind.candidates.generator import ItemGenerator
from recomind.candidates.nearest import NearestItems
from recomind.candidates.sources import Sources
from recomind.candidates.withheld import Withdrawals, Withheld
from recomind.data import among_rows, first_occurrence
from recomind.errors import SchemaError
from recomind.streams import LANE_POOL, SessionStreams, make_generator
from recomind.types import Candidates, SessionState

_PLANES = 0  # seed of the hash planes, equal in every process and in serving


@runtime_checkable
class ItemVectors(Protocol):
    """A retrieval with item vectors, from which near-duplicates are found."""

    def item_vectors(self, item_id: Tensor) -> Tensor:
        """Vectors [..., D] of `item_id` [...]."""
        ...


class CandidatePool:
    """A `CandidateSource` over a catalogue of any size.

    A catalogue of at most `K` unblocked items is its own pool. Slots that nearest or fresh items
    cannot fill, for lack of an index or of fresh items, go to random draws. These are stratified by
    the cells of `retrieval` if the config says so and there is a retrieval, else uniform. Withdrawn
    and blocked items are in no pool, from whatever source.

    Args:
        config: how the slots are shared out.
        num_items: `N`; ids are 0 .. N - 1.
        retrieval: finds the nearest items to a state.
        fresh_item_id: [F] int64, the newest items.
        lane: random lane of the sessions' streams.
        generator: adds candidates of your own.
        withdrawn: the catalogue, if items may be withdrawn from it.
        blocked_item_id: int64, items that are never candidates, besides those in the config.

    Raises:
        ConfigError: the catalogue is empty or wholly blocked; the index is of another catalogue or,
            for stratified draws, has no cells; generated slots without a generator, or a
            generator without slots.
        SchemaError: fresh or blocked ids outside the catalogue.
    """

    def __init__(
        self,
        config: CandidatesConfig,
        num_items: int,
        retrieval: NearestItems | None = None,
        fresh_item_id: Tensor | None = None,
        *,
        lane: int = LANE_POOL,
        generator: ItemGenerator | None = None,
        withdrawn: Withdrawals | None = None,
        blocked_item_id: Tensor | None = None,
    ) -> None:
        self.config, self.num_items, self.lane = config, num_items, lane
        blocked = torch.tensor(config.blocked, dtype=torch.int64)
        if blocked_item_id is not None:
            blocked = torch.cat([blocked, blocked_item_id.long().flatten().cpu()])
        self._withheld = Withheld(num_items, blocked, withdrawn)
        self._sources = Sources(config, self._withheld, retrieval, fresh_item_id, generator)
        self._vectors = retrieval if isinstance(retrieval, ItemVectors) else None
        self._duplicates: NearDuplicates | None = None

    def candidates(self, state: SessionState, streams: SessionStreams) -> Candidates:
        """Pools [B, K] for `state` [B]; equal for equal seeds and steps.

        `log_propensity` is exact given the state, the index and unchanged sources: 0 for a nearest
        or generated item, and for any other, with n random and f fresh draws,

            1 - (1 - p)^n (1 - 1/F)^f [fresh],   p = 1/N, or 1/(cells x size of the item's cell)

        with N the number of unblocked items. A draw that meets a withdrawn item is lost, which does
        not affect the others. It is 0 in padding slots. It is an upper bound

        - for fresh items with stratified draws: p is that of the smallest cell,
        - for recently seen items, which are readmitted only where nothing else was found,
        - with `duplicate_cosine`: an item may be dropped in favour of a near one.

        Raises:
            SchemaError: a session is left without candidates, or the generator returned no item
            ids.
        """
        unit_Bn = streams.uniform(state.step, 2 * self._sources.num_draws, self.lane)
        item_id_BK, log_miss_BK = self._sources(state, fine_uniforms(unit_Bn))
        recent_BR = recent_items(state, self.config.exclude_recent)
        seen_BK = among_rows(item_id_BK, recent_BR)
        real_BK = ~self._withheld(item_id_BK) & first_occurrence(item_id_BK)
        self._check_left(real_BK)
        mask_BK = real_BK & ~seen_BK
        # A pool is never empty: where everything was seen recently, seen items are readmitted.
        mask_BK = torch.where(mask_BK.any(1, keepdim=True), mask_BK, real_BK)
        mask_BK = self._without_duplicates(item_id_BK, mask_BK)
        log_BK = (-torch.expm1(log_miss_BK)).log().float()
        return Candidates(
            item_id=item_id_BK.masked_fill(~mask_BK, 0),
            mask=mask_BK,
            log_propensity=log_BK.masked_fill(~mask_BK, 0.0),
            batch_size=[len(item_id_BK)],
        )

    def _check_left(self, real_BK: Tensor) -> None:
        empty = (~real_BK.any(1)).nonzero()[:, 0]
        if len(empty):
            raise SchemaError(
                "a pool without candidates",
                got=f"{len(empty)} of {len(real_BK)} pools, the first is row {int(empty[0])}: "
                f"everything found is withdrawn, blocked or not an item",
                expected="at least one item in each",
                mend="raise candidates.num_candidates, shorten candidates.blocked, or bring the "
                "index up to date",
            )

    def _without_duplicates(self, item_id_BK: Tensor, mask_BK: Tensor) -> Tensor:
        """The mask without items near to an earlier item of their pool; never empty."""
        if not self.config.duplicate_cosine or self._vectors is None:
            return mask_BK
        vectors_BKD = self._vectors.item_vectors(item_id_BK.masked_fill(~mask_BK, 0))
        if self._duplicates is None:
            self._duplicates = NearDuplicates(
                self.config.duplicate_cosine, vectors_BKD.shape[2], make_generator(_PLANES)
            )
        return self._duplicates.keep(vectors_BKD, mask_BK)
