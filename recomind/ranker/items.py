"""Items as vectors: by content and, where an id is known, by id.

Symbols: `n` items, `C` categorical features, `F` numerical ones, `D` width.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recomind.devices import CPU, on_device, to_device
from recomind.errors import SchemaError
from recomind.ranker.config import RankerConfig
from recomind.ranker.dropout import BitDropout
from recomind.ranker.numbers import PiecewiseLinear
from recomind.ranker.tables import Tables, keyed
from recomind.streams import hash_int64
from recomind.types import Catalogue, ItemFeatures

if TYPE_CHECKING:
    from torchrec import EmbeddingBagCollection

# TorchRec asks whether it is traced in a way that torch would rather have it ask; not our affair.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)

_SALT_ID = 5
_SIZE_STEP = 1024


@dataclass(slots=True)
class DistinctItems:
    """The different items among many, each once."""

    item_id: Tensor  # [n], some of them padding
    content: ItemFeatures  # [n]
    inverse: Tensor  # [...], the place of each of the many


def distinct_items(catalogue: Catalogue, item_id: Tensor, snapshot: Tensor | None) -> DistinctItems:
    """The different ones of `item_id` [...], each as of one `snapshot`, with their content.

    Items of a batch repeat: 20,000 events of a batch are a few thousand items.
    """
    if snapshot is None:
        unique, inverse = torch.unique(item_id, return_inverse=True)
        unique = padded(unique)
        return DistinctItems(unique, content_of(catalogue, unique), inverse)
    both = snapshot.expand_as(item_id) * catalogue.num_items + item_id
    unique, inverse = torch.unique(both, return_inverse=True)
    unique = padded(unique)
    item_n, snapshot_n = unique % catalogue.num_items, unique // catalogue.num_items
    return DistinctItems(item_n, content_of(catalogue, item_n, snapshot_n), inverse)


def padded(unique: Tensor) -> Tensor:
    """Items to a multiple of 1,024, so that sizes repeat from batch to batch.

    Sizes that never repeat fragment the heap: a training process grew by 2 GiB in 3,000 updates.
    """
    return nn.functional.pad(unique, (0, -len(unique) % _SIZE_STEP))


def content_of(
    catalogue: Catalogue, item_id: Tensor, snapshot: Tensor | None = None
) -> ItemFeatures:
    """Content of `item_id` [...] on its device; catalogues are on the processor, and checked there.

    From another device this waits: what is asked for often has a table, or is gathered beforehand.
    """
    device = item_id.device
    if device.type == "cpu":
        return catalogue.features(item_id, snapshot)
    snapshot = None if snapshot is None else snapshot.to(CPU)
    return on_device(catalogue.features(item_id.to(CPU), snapshot), device)


class ItemEncoder(nn.Module):
    """Item id and content to a vector [..., D].

    Sparse features go through `Tables`, which give sparse gradients on one host; sharded training
    has TorchRec's `EmbeddingBagCollection` in their place. The id is one feature among the others,
    hashed into its table, and hidden for a share of the items in training, so that an item that was
    never seen is scored by its content.
    """

    tables: Tables | EmbeddingBagCollection

    def __init__(self, catalogue: Catalogue, config: RankerConfig) -> None:
        super().__init__()
        self.id_buckets, self.id_dropout = config.id_buckets, config.id_dropout
        self.hash_ids = config.hash_ids
        if not config.hash_ids and catalogue.num_items > config.id_buckets:
            raise SchemaError(
                "the id table is smaller than the largest id",
                got=f"ranker.id_buckets={config.id_buckets} for {catalogue.num_items} items",
                mend="raise ranker.id_buckets, or set ranker.hash_ids=true",
            )
        sizes = (config.id_buckets, *catalogue.vocab_sizes)
        self.features = [f"feature_{index}" for index in range(len(sizes))]
        named = dict(zip(self.features, sizes, strict=True))
        self.tables = Tables(named, config.id_dim, config.id_scale)
        self.numbers = PiecewiseLinear(len(catalogue.dense_names), config.num_bins)
        width = config.id_dim * len(sizes) + self.numbers.width
        self.net = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.GELU(),
            BitDropout(config.dropout),
            nn.Linear(config.hidden, config.dim),
        )

    def forward(
        self, item_id: Tensor, catalogue: Catalogue, snapshot: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Vectors [n, D] and encoded numbers [n, F * Q] of `item_id` [n]."""
        return self.encode(item_id, content_of(catalogue, item_id, snapshot))

    def encode(self, item_id: Tensor, content: ItemFeatures) -> tuple[Tensor, Tensor]:
        """The same of items [n] whose content is at hand, on the device of the weights."""
        sparse = self._sparse(item_id, content.categorical)
        if self.training and self.id_dropout > 0:
            # Drawn on the processor: the same ids are hidden on every device.
            shown = to_device(torch.rand(len(item_id), 1) >= self.id_dropout, sparse.device)
            width = sparse.shape[1] // len(self.features)
            sparse = torch.cat([sparse[:, :width] * shown, sparse[:, width:]], dim=1)
        numbers = self.numbers(content.dense)
        return self.net(torch.cat([sparse, numbers], dim=1)), numbers

    def _sparse(self, item_id: Tensor, categorical_nC: Tensor) -> Tensor:
        """The rows of all tables side by side, [n, id_dim * (1 + C)]."""
        ids = (self._row(item_id), *categorical_nC.unbind(1))
        if isinstance(self.tables, Tables):
            return self.tables(ids)
        pooled = self.tables(keyed(self.features, ids))
        # A sharded collection gives the features in its shards' order.
        return torch.cat([pooled[feature] for feature in self.features], dim=1)

    def _row(self, item_id: Tensor) -> Tensor:
        """The row of each id in the table of ids."""
        if not self.hash_ids:
            return item_id
        return hash_int64(item_id, _SALT_ID).remainder(self.id_buckets)
