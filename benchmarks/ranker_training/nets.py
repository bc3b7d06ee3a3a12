"""DeepFM and DIN in plain torch, of the ranker's sizes, for their speed alone.

DeepFM: Guo et al., IJCAI 2017. DIN: Zhou et al., KDD 2018. Both read the item's id and categories,
its numbers and the user's, as rows of a batch; DIN reads the history's items as well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recomind.ranker import RankerConfig


class Embeddings(nn.Module):
    """Rows of an item's id and categories side by side [..., W]."""

    def __init__(self, sizes: list[int], dim: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, dim, sparse=True) for size in sizes)

    def forward(self, ids: Tensor) -> Tensor:
        """Rows [..., W] of ids [..., C]."""
        columns = zip(self.tables, ids.unbind(-1), strict=True)
        return torch.stack([table(column) for table, column in columns], dim=-2)


class DeepFM(nn.Module):
    """Products of pairs of embeddings beside a network over all of them and the numbers."""

    def __init__(self, sizes: list[int], num_numbers: int, num_tasks: int) -> None:
        super().__init__()
        config = RankerConfig()
        self.embeddings = Embeddings(sizes, config.id_dim)
        self.deep = _deep(config.id_dim * len(sizes) + num_numbers, config, num_tasks)
        self.wide = nn.Linear(num_numbers, num_tasks)

    def forward(self, ids: Tensor, numbers: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Logits [B, H]; the history is not read."""
        del history, mask
        rows = self.embeddings(ids)
        pairs = (rows.sum(1).square() - rows.square().sum(1)).sum(1, keepdim=True) / 2
        return self.deep(torch.cat([rows.flatten(1), numbers], 1)) + self.wide(numbers) + pairs


class DIN(nn.Module):
    """The history's items, weighted by a network that sees each beside the candidate."""

    def __init__(self, sizes: list[int], num_numbers: int, num_tasks: int) -> None:
        super().__init__()
        config = RankerConfig()
        self.embeddings = Embeddings(sizes, config.id_dim)
        width = config.id_dim * len(sizes)
        self.attention = nn.Sequential(
            nn.Linear(4 * width, config.dim), nn.GELU(), nn.Linear(config.dim, 1)
        )
        self.deep = _deep(2 * width + num_numbers, config, num_tasks)

    def forward(self, ids: Tensor, numbers: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Logits [B, H]."""
        item, events = self.embeddings(ids).flatten(1), self.embeddings(history).flatten(2)
        shown = item[:, None].expand_as(events)
        pairs = torch.cat([shown, events, shown - events, shown * events], dim=2)
        seen = (self.attention(pairs) * mask[..., None] * events).sum(1)
        return self.deep(torch.cat([item, seen, numbers], dim=1))


def _deep(width: int, config: RankerConfig, num_tasks: int) -> nn.Sequential:
    """The ranker's hidden layers."""
    return nn.Sequential(
        nn.Linear(width, 2 * config.hidden),
        nn.GELU(),
        nn.Dropout(config.dropout),
        nn.Linear(2 * config.hidden, config.hidden),
        nn.GELU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, num_tasks),
    )
