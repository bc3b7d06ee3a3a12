"""A TorchRec DLRM over topics and authors; logits of one task."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchrec.models.dlrm import DLRM
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from experiments.external_rankers.models import NUM_DENSE, NUM_TOPICS, NUM_USER, history_topics
from recomind.adapters import RowBatch
from recomind.adapters.dlrm import dlrm_inputs

NUM_AUTHORS = 1000
TABLES = {
    "topic": (NUM_TOPICS, ["topic", "seen", "watched"]),  # one table, three features
    "author": (NUM_AUTHORS, ["author"]),
}


def build() -> DLRM:
    tables = [
        EmbeddingBagConfig(
            name=f"table_{name}", embedding_dim=8, num_embeddings=size, feature_names=features
        )
        for name, (size, features) in TABLES.items()
    ]
    return DLRM(
        EmbeddingBagCollection(tables=tables),
        dense_in_features=NUM_USER + NUM_DENSE,
        dense_arch_layer_sizes=[16, 8],
        over_arch_layer_sizes=[16, 1],
    )


def features(
    user_RU: Tensor, dense_RD: Tensor, category_R2: Tensor, topic_RL: Tensor, watched_RL: Tensor
) -> Any:
    """Dense features and a `KeyedJaggedTensor`; topic -1 is padding."""
    seen_RL, ids_RL = topic_RL >= 0, topic_RL.clamp(min=0)
    return dlrm_inputs(
        dense=[user_RU, dense_RD],
        sparse={
            "topic": category_R2[:, 0],
            "author": category_R2[:, 1],
            "seen": (ids_RL, seen_RL),
            "watched": (ids_RL, seen_RL & watched_RL),
        },
    )


def inputs(rows: RowBatch) -> Any:
    items = rows.items
    return features(rows.state.user_features, items.dense, items.categorical, *history_topics(rows))
