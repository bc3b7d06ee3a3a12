"""States, streams and settings that the tests of pools share."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from recomind.candidates import CandidatesConfig
from recomind.retrieval.cells import Cells
from recomind.streams import SessionStreams, draw_seeds, make_generator
from recomind.types import Catalogue, SessionState


class NearZero:
    """A real, if simple, retrieval: the items nearest to id 0 are 0, 1, 2, ..."""

    def __init__(self, num_items: int, found: int = 10**6) -> None:
        self.num_items, self.found, self.asked = num_items, found, 0

    def nearest(self, state: SessionState, num: int) -> Tensor:
        self.asked = num
        item = torch.arange(num)
        return torch.where(item < self.found, item, -1).repeat(len(state.step), 1)


class Celled(NearZero):
    """Its cells hold the items in turn, twice as many in each as in the one before."""

    def cells(self) -> Cells:
        bounds = [min(2**n - 1, self.num_items) for n in range(self.num_items.bit_length() + 1)]
        return Cells([range(*pair) for pair in pairwise(bounds)])


class Last:
    """Generates the last items of a catalogue, from `first` places before its end."""

    def __init__(self, catalogue: Catalogue, first: int = 0) -> None:
        self.begin = catalogue.num_items - 1 - first

    def generate(self, state: SessionState, num: int) -> Tensor:
        return (self.begin - torch.arange(num)).repeat(len(state.step), 1)


def state_of(batch: int, history: list[int] | None = None, step: int = 0) -> SessionState:
    """States with one history for all; None in front pads to length 6."""
    history = history or []
    item = torch.tensor([0] * (6 - len(history)) + history).repeat(batch, 1)
    mask = (torch.arange(6) >= 6 - len(history)).repeat(batch, 1)
    return SessionState(
        user_id=torch.arange(batch),
        user_features=torch.zeros(batch, 2),
        history_item_id=item,
        history_feedback=torch.zeros(batch, 6, 1, dtype=torch.bool),
        history_dwell_s=torch.zeros(batch, 6),
        history_gap_s=torch.zeros(batch, 6),
        history_mask=mask,
        gap_s=torch.zeros(batch),
        step=torch.full((batch,), step),
        batch_size=[batch],
    )


def streams_of(batch: int, seed: int = 0) -> SessionStreams:
    return SessionStreams(draw_seeds(batch, make_generator(seed)))


def config_of(
    k: int = 8, near: int = 3, fresh: int = 1, recent: int = 4, **changes: Any
) -> CandidatesConfig:
    return CandidatesConfig(
        num_candidates=k, num_nearest=near, num_fresh=fresh, exclude_recent=recent, **changes
    )
