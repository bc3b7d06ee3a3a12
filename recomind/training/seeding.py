"""Random generators of one training run."""

from __future__ import annotations

import torch

from recomind.streams import hash_int64, make_generator

LANE_SESSIONS, LANE_REPLAY = 0, 1


def run_generator(seed: int, lane: int, *parts: int) -> torch.Generator:
    """A generator for a consumer (`lane`) of run `seed`; `parts` distinguish its instances."""
    mixed = torch.tensor(seed, dtype=torch.int64)
    for part in (lane, *parts):
        mixed = hash_int64(mixed) ^ part
    return make_generator(int(mixed))
