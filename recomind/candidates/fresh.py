"""The items that count as fresh."""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.types import Catalogue

_CHUNK = 1_048_576  # items looked at together
_FRESH_SHARE = 100  # one item in so many counts as fresh


def fresh_items(catalogue: Catalogue) -> Tensor | None:
    """Ids [F] of the newest hundredth of the items; None where their age is unknown."""
    ages = [n for n, name in enumerate(catalogue.dense_names) if name.startswith("age")]
    if not ages:
        return None
    chunks = torch.arange(catalogue.num_items).split(_CHUNK)
    age = torch.cat([catalogue.features(ids).dense[:, ages[0]] for ids in chunks])
    return age.argsort(stable=True)[: max(1, catalogue.num_items // _FRESH_SHARE)]
