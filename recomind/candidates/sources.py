"""The sources of a pool's candidates, and the probability that each is among them.

Symbols: `B` decisions, `K` slots, `F` fresh items, `n` random draws.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor

from recomind.candidates.chance import Draws, StratifiedDraws, UniformDraws
from recomind.candidates.config import CandidatesConfig
from recomind.candidates.draws import log_miss, uniform_items
from recomind.candidates.generator import ItemGenerator, checked_generator, generated
from recomind.candidates.nearest import NearestItems, NearestOpen
from recomind.candidates.withheld import Withheld, distinct_items
from recomind.data import among
from recomind.errors import ConfigError
from recomind.retrieval.search import HasCells
from recomind.types import SessionState

_log = logging.getLogger(__name__)


class Sources:
    """Nearest, generated, fresh and random items side by side; see `CandidatePool`."""

    def __init__(
        self,
        config: CandidatesConfig,
        withheld: Withheld,
        retrieval: NearestItems | None,
        fresh_item_id: Tensor | None,
        generator: ItemGenerator | None,
    ) -> None:
        _check_sources(config, withheld.num_items, retrieval, generator)
        self._num_slots, self._withheld, self._generator = (
            config.num_candidates,
            withheld,
            generator,
        )
        self._nearest = None
        if retrieval is not None and config.num_nearest:
            num, recent = config.num_nearest, config.exclude_recent
            self._nearest = NearestOpen(retrieval, withheld, num, recent)
        self._draws: Draws = UniformDraws(withheld)
        if config.stratified and isinstance(retrieval, HasCells):
            self._draws = StratifiedDraws(retrieval)
        self._fresh_F = _open_fresh(fresh_item_id, withheld)
        self._num_fresh = config.num_fresh if len(self._fresh_F) else 0
        self._num_generated = config.num_generated
        num_near = config.num_nearest if self._nearest is not None else 0
        self._num_certain = num_near + config.num_generated
        self.num_draws = self._num_slots - self._num_certain
        if withheld.num_open < self._num_slots:
            _say_fewer(withheld.num_open, self._num_slots)

    def __call__(self, state: SessionState, unit_Bn: Tensor) -> tuple[Tensor, Tensor]:
        """Candidates for `state` [B].

        Args:
            state: of the decisions.
            unit_Bn: [B, num_draws] float64 in (0, 1).

        Returns:
            item_id: [B, K] int64, -1 where there is none; an item may occur more than once.
            log_miss: [B, K] float64, log-probability that an item is not among them; -inf where
                it certainly is.
        """
        if self._withheld.num_open <= self._num_slots:
            return self._everything(len(state.step), state.step.device)
        drawn = self._draws(unit_Bn[:, self._num_fresh :])
        fresh_F = self._fresh_F.to(unit_Bn.device)
        item_id_BK = torch.cat(
            [
                *self._certain(state),
                fresh_F[uniform_items(unit_Bn[:, : self._num_fresh], len(fresh_F))],
                drawn.item_id,
            ],
            dim=1,
        )
        log_miss_BK = torch.full_like(item_id_BK, drawn.log_miss_any, dtype=torch.float64)
        log_miss_BK[:, self._num_certain + self._num_fresh :] = drawn.log_miss
        if self._num_fresh:
            # One probability for each item, independent of the slot that it came by.
            either = drawn.log_miss_any + log_miss(len(fresh_F), self._num_fresh)
            log_miss_BK = torch.where(among(item_id_BK, fresh_F), either, log_miss_BK)
        log_miss_BK[:, : self._num_certain] = -torch.inf
        return item_id_BK, log_miss_BK

    def _everything(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """All unblocked items, where a pool can hold them all."""
        slot_K, num_open = torch.arange(self._num_slots, device=device), self._withheld.num_open
        item_id_K = torch.where(slot_K < num_open, self._withheld.open_item(slot_K), -1)
        item_id_BK = item_id_K.repeat(batch, 1)
        return item_id_BK, torch.full_like(item_id_BK, -torch.inf, dtype=torch.float64)

    def _certain(self, state: SessionState) -> list[Tensor]:
        """Nearest and generated ids, [B, n] each."""
        found = [] if self._nearest is None else [self._nearest(state)]
        if self._generator is not None:
            num_items = self._withheld.num_items
            found.append(generated(self._generator, state, self._num_generated, num_items))
        return found


def _open_fresh(fresh_item_id: Tensor | None, withheld: Withheld) -> Tensor:
    """Distinct fresh ids that are not withheld, in ascending order, [F] int64."""
    if fresh_item_id is None:
        return torch.zeros(0, dtype=torch.int64)
    fresh_F = distinct_items(fresh_item_id, withheld.num_items, "fresh items")
    return fresh_F[~withheld(fresh_F)]


def _check_sources(
    config: CandidatesConfig,
    num_items: int,
    retrieval: NearestItems | None,
    generator: ItemGenerator | None,
) -> None:
    if retrieval is not None and retrieval.num_items != num_items:
        raise ConfigError(
            "the index is of another catalogue",
            got=f"{retrieval.num_items} items",
            expected=f"{num_items} items",
            mend="build the index from this catalogue",
        )
    if config.stratified and retrieval is not None and not isinstance(retrieval, HasCells):
        raise ConfigError(
            "stratified draws need a retrieval with cells",
            got=type(retrieval).__name__,
            expected="a method cells(), as in recomind.retrieval.Retrieval",
        )
    if generator is not None:
        checked_generator(generator)
    if (generator is not None) != (config.num_generated > 0):
        raise ConfigError(
            "generated slots and a generator need one another",
            got=f"num_generated={config.num_generated}, generator={generator}",
            expected="both or neither",
        )


@cache
def _say_fewer(num_open: int, num_candidates: int) -> None:
    """Warn once in a process, since a run creates many pools."""
    _log.warning(
        "a pool has at most %d candidates, not candidates.num_candidates=%d: there are no more"
        " items; the other slots are masked",
        num_open,
        num_candidates,
    )
