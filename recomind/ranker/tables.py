"""The embedding tables of an item's sparse features, on one host and sharded among several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    # Importing TorchRec takes longer than torch's own import, and only sharding needs it.
    from torchrec import EmbeddingBagCollection, KeyedJaggedTensor


class Tables(nn.Module):
    """One table [size, width] a feature, with the names that TorchRec gives weights and features.

    Args:
        sizes: Rows of the table of each feature.
        width: Of each row.
        scale: Standard deviation of the first weights.
    """

    def __init__(self, sizes: Mapping[str, int], width: int, scale: float) -> None:
        super().__init__()
        # A dense gradient would cost the whole table at every update.
        bags = {
            f"table_{feature}": nn.EmbeddingBag(
                size, width, mode="sum", sparse=True, include_last_offset=True
            )
            for feature, size in sizes.items()
        }
        self.embedding_bags = nn.ModuleDict(bags)
        for bag in bags.values():  # drawn as TorchRec does: a seed's weights depend on it
            nn.init.uniform_(bag.weight)
        for bag in bags.values():
            nn.init.normal_(bag.weight, std=scale)

    def forward(self, ids: tuple[Tensor, ...]) -> Tensor:
        """Rows [n, width * features] of the `ids` [n] of each feature, side by side.

        A bag of one is its row: looked up at once, for a fifth of a collection's time.
        """
        tables = [bag.get_parameter("weight") for bag in self.embedding_bags.values()]
        rows = zip(ids, tables, strict=True)
        looked_up = [nn.functional.embedding(one, table, sparse=True) for one, table in rows]
        return torch.cat(looked_up, dim=1)


def collection(tables: Tables) -> EmbeddingBagCollection:
    """TorchRec's form of the tables, which `DistributedModelParallel` shards, with new weights."""
    from torchrec import EmbeddingBagCollection, EmbeddingBagConfig

    with torch.random.fork_rng(devices=[]):
        return EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=name,
                    feature_names=[name.removeprefix("table_")],
                    num_embeddings=bag.get_parameter("weight").shape[0],
                    embedding_dim=bag.get_parameter("weight").shape[1],
                )
                for name, bag in tables.embedding_bags.items()
            ]
        )


def keyed(features: list[str], ids: tuple[Tensor, ...]) -> KeyedJaggedTensor:
    """What a collection looks up: one value a feature and item, feature after feature."""
    from torchrec import KeyedJaggedTensor

    values = torch.cat(ids)
    lengths = torch.ones_like(values, dtype=torch.int32)
    return KeyedJaggedTensor(keys=features, values=values, lengths=lengths)
