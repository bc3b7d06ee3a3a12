"""What a session was shown, by the items' content: how far apart, and how new.

Symbols: `B` sessions, `T` steps, `N` items, `F` dense features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.types import Catalogue

NEW_SHARE = (
    0.1  # share of the catalogue that counts as new, by the feature whose name begins with "age"
)
_MAX_ITEMS = 200_000  # items of a catalogue whose ages are all looked at
_CHUNK = 65_536


def item_measures(catalogue: Catalogue, item_BT: Tensor) -> dict[str, Tensor | None]:
    """`spread` [B] and `num_new` [B] of items [B, T]; ids below 0 were not shown.

    The mean squared distance of two of n vectors is 2 n / (n - 1) times their variance: it needs no
    pairs. It is taken per dense feature; a session of one item has 0.
    """
    if not catalogue.dense_names:
        return {"spread": None, "num_new": None}
    shown_BT = item_BT >= 0
    dense_BTF = catalogue.features(item_BT.clamp(min=0)).dense.double() * shown_BT[..., None]
    count_B1 = shown_BT.sum(1, keepdim=True).double()
    mean_BF = dense_BTF.sum(1) / count_B1.clamp(min=1.0)
    variance_B = (dense_BTF.square().sum(1) / count_B1.clamp(min=1.0) - mean_BF.square()).mean(1)
    pairs_B = 2.0 * count_B1[:, 0] / (count_B1[:, 0] - 1.0).clamp(min=1.0)
    return {
        "spread": (pairs_B * variance_B).clamp(min=0.0) * (count_B1[:, 0] > 1),
        "num_new": _num_new(catalogue, item_BT, shown_BT),
    }


def _num_new(catalogue: Catalogue, item_BT: Tensor, shown_BT: Tensor) -> Tensor | None:
    ages = [n for n, name in enumerate(catalogue.dense_names) if name.startswith("age")]
    if not ages or catalogue.num_items > _MAX_ITEMS:
        return None
    chunks = torch.arange(catalogue.num_items).split(_CHUNK)
    age_N = torch.cat([catalogue.features(ids).dense[:, ages[0]] for ids in chunks])
    num_new = max(1, round(NEW_SHARE * catalogue.num_items))
    limit = age_N.kthvalue(num_new).values
    return ((age_N[item_BT.clamp(min=0)] <= limit) & shown_BT).sum(1)
