"""Pools for logged decisions, drawn again around what was shown."""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.candidates.around import around
from recomind.data import SessionDataset
from recomind.streams import SessionStreams, draw_seeds
from recomind.types import Candidates, CandidateSource

CHUNK = 1024  # decisions at once


def pools_around(
    dataset: SessionDataset, rows: Tensor, pool: CandidateSource, generator: torch.Generator
) -> list[Candidates]:
    """Pools of the decisions `rows` [R], in chunks, with what was shown in slot 0."""
    found = []
    for chunk in rows.split(CHUNK):
        streams = SessionStreams(draw_seeds(len(chunk), generator))
        drawn = pool.candidates(dataset.state(chunk), streams)
        found.append(around(drawn, dataset.item_id(chunk)))
    return found
