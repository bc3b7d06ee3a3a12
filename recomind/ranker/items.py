"""Items as vectors: by content and, where an id is known, by id.

Symbols: `n` items, `C` categorical features, `F` numerical ones, `D` width.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor

from recomind.errors import SchemaError
from recomind.ranker.config import RankerConfig
from recomind.ranker.dropout import BitDropout
from recomind.ranker.numbers import PiecewiseLinear
from recomind.streams import hash_int64
from recomind.types import Catalogue

# TorchRec asks whether it is traced in a way that torch would rather have it ask; not our affair.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)

_SALT_ID = 5


class ItemEncoder(nn.Module):
    """Item id and content to a vector [..., D].

    Sparse features go through one TorchRec `EmbeddingBagCollection`, so that the same module is
    sharded by `DistributedModelParallel`; on one host its tables give sparse gradients. The id is
    one feature among the others, hashed into its table, and hidden for a share of the items in
    training, so that an item that was never seen is scored by its content.
    """

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
        self.tables = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=f"table_{feature}",
                    feature_names=[feature],
                    num_embeddings=size,
                    embedding_dim=config.id_dim,
                )
                for feature, size in zip(self.features, sizes, strict=True)
            ]
        )
        for bag in self.tables.embedding_bags.values():
            assert isinstance(bag, nn.EmbeddingBag)
            bag.sparse = True  # a dense gradient would cost the whole table at every update
            nn.init.normal_(bag.weight, std=config.id_scale)
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
        content = catalogue.features(item_id, snapshot)
        sparse = self._sparse(item_id, content.categorical)
        if self.training and self.id_dropout > 0:
            shown = torch.rand(len(item_id), 1) >= self.id_dropout
            width = sparse.shape[1] // len(self.features)
            sparse = torch.cat([sparse[:, :width] * shown, sparse[:, width:]], dim=1)
        numbers = self.numbers(content.dense)
        return self.net(torch.cat([sparse, numbers], dim=1)), numbers

    def _sparse(self, item_id: Tensor, categorical_nC: Tensor) -> Tensor:
        """The rows of all tables side by side, [n, id_dim * (1 + C)]."""
        if type(self.tables) is EmbeddingBagCollection:
            # A bag of one is its row: looked up at once, for a fifth of the collection's time.
            columns = (self._row(item_id), *categorical_nC.unbind(1))
            tables = [bag.get_parameter("weight") for bag in self.tables.embedding_bags.values()]
            rows = zip(columns, tables, strict=True)
            looked_up = [nn.functional.embedding(ids, table, sparse=True) for ids, table in rows]
            return torch.cat(looked_up, dim=1)
        pooled = self.tables(self._keyed(item_id, categorical_nC))
        # A sharded collection gives the features in its shards' order.
        return torch.cat([pooled[feature] for feature in self.features], dim=1)

    def _row(self, item_id: Tensor) -> Tensor:
        """The row of each id in the table of ids."""
        if not self.hash_ids:
            return item_id
        return hash_int64(item_id, _SALT_ID).remainder(self.id_buckets)

    def _keyed(self, item_id: Tensor, categorical_nC: Tensor) -> KeyedJaggedTensor:
        """One value a feature and item, feature after feature."""
        values = torch.cat([self._row(item_id)[:, None], categorical_nC], dim=1).T.flatten()
        return KeyedJaggedTensor(
            keys=self.features, values=values, lengths=torch.ones_like(values, dtype=torch.int32)
        )
