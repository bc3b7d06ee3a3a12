"""Items by their content alone, as numbers: the inputs of a model of a logging policy.

Symbols: `F` dense features, `C` categorical ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recomind.types import Catalogue

BUCKETS = 64  # of a categorical feature; a larger vocabulary is folded


def content_width(catalogue: Catalogue) -> int:
    """Width of `content`."""
    return len(catalogue.dense_names) + sum(min(s, BUCKETS) for s in catalogue.vocab_sizes)


def content(catalogue: Catalogue, item_id: Tensor, snapshot: Tensor | None = None) -> Tensor:
    """The dense features of `item_id` [...] and one-hots of the categorical ones, [..., width]."""
    features = catalogue.features(item_id, snapshot)
    one_hot = one_hots(features.categorical, catalogue.vocab_sizes)
    return torch.cat([features.dense, one_hot], dim=-1)


def one_hots(categorical: Tensor, vocab_sizes: Sequence[int]) -> Tensor:
    """Each of `categorical` [..., C] as a one-hot of at most 64, side by side."""
    parts = [categorical.new_zeros(*categorical.shape[:-1], 0)]
    for column, size in enumerate(vocab_sizes):
        width = min(size, BUCKETS)
        parts.append(nn.functional.one_hot(categorical[..., column] % width, width))
    return torch.cat(parts, dim=-1).float()
