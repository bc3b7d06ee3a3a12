"""A ranker of production size over 100,000 items, and states as a feed would have them.

Symbols: `B` states, `L` history events, `H` tasks, `N` items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.data import TableCatalogue
from recomind.ranker import RankerConfig, SessionRanker
from recomind.streams import make_generator
from recomind.types import SessionState

NUM_ITEMS = 100_000
NUM_USER_FEATURES = 32
NUM_DENSE = 16
VOCAB_SIZES = (5_000, 60, 200, 8)  # author, tag, music, type
TASKS = ("watch_10s", "like", "hide")
RECENT_LENGTH = 200


def make_ranker(history_length: int, seed: int) -> SessionRanker:
    """A ranker whose every part has random weights, its items' half precomputed.

    Weights that start at zero (the transformer's outputs, the wide parts) are drawn too: an equal
    score must not come from a part that does nothing.
    """
    config = RankerConfig(
        history_length=history_length,
        recent_length=RECENT_LENGTH,
        dim=64,
        hidden=256,
        num_layers=2,
        num_heads=4,
        id_buckets=NUM_ITEMS,
    )
    generator = make_generator(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ranker = SessionRanker(_catalogue(generator), TASKS, NUM_USER_FEATURES, config)
    for parameter in ranker.parameters():
        if not parameter.detach().any():
            nonzero = torch.randn(parameter.shape, generator=generator) * 0.05
            parameter.data.copy_(nonzero)
    return ranker.requires_grad_(False).precompute_items()


def _catalogue(generator: torch.Generator) -> TableCatalogue:
    return TableCatalogue(
        torch.randn(1, NUM_ITEMS, NUM_DENSE, generator=generator),
        torch.stack([_ids(size, (NUM_ITEMS,), generator) for size in VOCAB_SIZES], dim=1),
        dense_names=[f"number_{index}" for index in range(NUM_DENSE)],
        categorical_names=("author", "tag", "music", "type"),
        vocab_sizes=VOCAB_SIZES,
    )


def _ids(size: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(size, shape, generator=generator)


def make_states(num: int, length: int, generator: torch.Generator) -> SessionState:
    """States [B] whose histories are full to full by half, in sessions of up to 40 events."""
    filled_B = torch.randint(length // 2, length + 1, (num,), generator=generator)
    mask_BL = torch.arange(length, 0, -1) <= filled_B[:, None]
    rates_H = torch.tensor([0.4, 0.05, 0.02])
    feedback_BLH = torch.rand(num, length, len(TASKS), generator=generator) < rates_H
    dwell_BL = torch.empty(num, length).exponential_(0.1, generator=generator)
    gap_BL = dwell_BL + 2.0
    return SessionState(
        user_id=torch.arange(num),
        user_features=torch.randn(num, NUM_USER_FEATURES, generator=generator),
        history_item_id=_ids(NUM_ITEMS, (num, length), generator) * mask_BL,
        history_feedback=feedback_BLH & mask_BL[..., None],
        history_dwell_s=dwell_BL * mask_BL,
        history_gap_s=gap_BL * mask_BL,
        history_mask=mask_BL,
        gap_s=gap_BL[:, -1].clone(),
        step=torch.randint(40, (num,), generator=generator),
        batch_size=[num],
    )


def make_candidates(num: int, num_candidates: int, generator: torch.Generator) -> Tensor:
    """Item ids [B, K], drawn evenly from all items."""
    return _ids(NUM_ITEMS, (num, num_candidates), generator)
