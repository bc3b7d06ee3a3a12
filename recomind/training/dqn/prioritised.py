"""Prioritised replay: transitions are sampled in proportion to their TD error.

Schaul, Quan, Antonoglou, Silver: "Prioritized Experience Replay", ICLR 2016 (arXiv:1511.05952),
the proportional variant:

    P(i) = p_i^alpha / sum_j p_j^alpha,   p_i = |TD error of i when it was last sampled| + e
    w_i  = (M P(i))^-beta / max over the batch                 (equation 1 and section 3.4)

`M` starting points, `N` transitions drawn. The cumulative sum over all M is recomputed for each
batch: for the 1e5 transitions of a replay that costs less than the network does for one of them,
and no tree has to be kept in step with the ring.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from recomind.training.dqn.replay import SessionReplay
from recomind.training.rows import SessionRows
from recomind.types import Transition

_PRIORITY = "priority"
_LEAST = 1e-3  # e: transitions with no error are sampled again too


@dataclass(kw_only=True, slots=True)
class WeightedDraw:
    """`N` transitions, their places in the replay, and their weights."""

    transition: Transition  # [N]
    index: Tensor  # [N] int64, for `update`
    weight: Tensor  # [N] float32 importance weights, not yet divided by the largest


class PrioritisedReplay(SessionReplay):
    """A replay whose transitions have priorities; new ones get the highest present one.

    Args:
        num_rows: time steps kept.
        n_step: rewards in a return.
        gamma: discount per event.
        alpha: exponent of the priorities; 0 draws uniformly.
    """

    def __init__(self, *, num_rows: int, n_step: int, gamma: float, alpha: float) -> None:
        super().__init__(num_rows=num_rows, n_step=n_step, gamma=gamma)
        self.alpha = alpha

    def add(self, rows: SessionRows) -> None:
        """Append time steps with the highest priority, so that each is sampled soon."""
        known = self._columns.get(_PRIORITY)
        highest = 1.0 if known is None else max(_LEAST, float(known.max()))
        fresh = torch.full(rows.columns["valid"].shape, highest)
        super().add(dataclasses.replace(rows, columns=rows.columns | {_PRIORITY: fresh}))

    def draw(self, batch_size: int, generator: torch.Generator, beta: float) -> WeightedDraw:
        """Transitions [batch_size] in proportion to their priorities, with replacement.

        Raises:
            ConfigError: nothing can be sampled yet.
        """
        starts_M = self._starting_points()
        if not len(starts_M):
            self.sample(batch_size, generator)  # raises
        share_M = self._columns[_PRIORITY].view(-1)[starts_M].double() ** self.alpha
        reached_M = share_M.cumsum(0)
        uniform_N = torch.rand(batch_size, generator=generator, dtype=torch.float64)
        drawn_N = torch.searchsorted(reached_M, uniform_N * reached_M[-1], right=True)
        drawn_N = drawn_N.clamp(max=len(starts_M) - 1)
        chance_N = share_M[drawn_N] / reached_M[-1]
        index_N = starts_M[drawn_N]
        return WeightedDraw(
            transition=self._transition(index_N),
            index=index_N,
            weight=(len(starts_M) * chance_N).pow(-beta).float(),
        )

    def update(self, index: Tensor, td_error: Tensor) -> None:
        """Set the priorities of the transitions at `index` [N] from their TD errors."""
        self._columns[_PRIORITY].view(-1)[index] = td_error.abs() + _LEAST


def draw_across(
    replays: list[PrioritisedReplay], batch_size: int, generator: torch.Generator, beta: float
) -> tuple[Transition, Tensor, list[tuple[PrioritisedReplay, Tensor]]]:
    """One batch, in equal parts from the non-empty replays of the runners.

    Returns:
        transition: [batch_size].
        weight: [batch_size] float32, the largest is 1.
        drawn: each replay with the indices of its part of the batch, in order.
    """
    filled = [replay for replay in replays if len(replay)] or replays[:1]
    share, rest = divmod(batch_size, len(filled))
    parts = [r.draw(share + (i < rest), generator, beta) for i, r in enumerate(filled)]
    transition = torch.cat([part.transition for part in parts])  # type: ignore[arg-type]
    weight = torch.cat([part.weight for part in parts])
    drawn = [(replay, part.index) for replay, part in zip(filled, parts, strict=True)]
    return transition, weight / weight.max(), drawn  # type: ignore[return-value]


def note_errors(drawn: list[tuple[PrioritisedReplay, Tensor]], td_error: Tensor) -> None:
    """Update the priorities of a batch of `draw_across` from its errors [batch_size]."""
    parts = td_error.split([len(index) for _, index in drawn])
    for (replay, index), part in zip(drawn, parts, strict=True):
        replay.update(index, part)
