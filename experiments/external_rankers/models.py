"""Torch models with features of their own, and the functions that a run asks them through.

Symbols: `R` rows or states, `L` events of history, `T` topics, `H` a model's tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from recomind.adapters import RowBatch, StateBatch
from recomind.types import ItemFeatures

NUM_TOPICS, NUM_USER, NUM_DENSE = 16, 9, 3
WIDTH = NUM_USER + NUM_DENSE + NUM_TOPICS + 2


def topic_counts(topic_RL: Tensor, watched_RL: Tensor) -> Tensor:
    """[R, T, 2]: how often a topic was seen and watched; topic -1 is padding."""
    seen_RLT = one_hot(topic_RL + 1, NUM_TOPICS + 1)[..., 1:].float()
    watched_RLT = seen_RLT * watched_RL[..., None]
    return torch.stack([seen_RLT.sum(1), watched_RLT.sum(1)], dim=-1)


def flat_features(user_RU: Tensor, dense_RD: Tensor, topic_R: Tensor, counts_RT2: Tensor) -> Tensor:
    """[R, WIDTH]: user, item, its topic, and what the user did with that topic."""
    of_topic_R2 = counts_RT2[torch.arange(len(topic_R)), topic_R]
    return torch.cat([user_RU, dense_RD, one_hot(topic_R, NUM_TOPICS), of_topic_R2], dim=1)


def history_topics(batch: StateBatch) -> tuple[Tensor, Tensor]:
    """Topics [R, L] of the history, -1 where there is no event, and whether it was watched."""
    mask_RL = batch.state.history_mask
    topic_RL = batch.history.categorical[..., 0].masked_fill(~mask_RL, -1)
    return topic_RL, batch.state.history_feedback[..., 0]  # task 0 of the log is watch_10s


def flat_inputs(rows: RowBatch) -> Tensor:
    """What `Flat` takes, in whichever format it is stored, and what the trees take."""
    counts_RT2 = topic_counts(*history_topics(rows))
    user_RU, topic_R = rows.state.user_features, rows.items.categorical[:, 0]
    return flat_features(user_RU, rows.items.dense, topic_R, counts_RT2)


class Flat(nn.Module):
    """Probabilities [R, 2] of flat rows; dropout would show if it were left on."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))

    def forward(self, rows: Tensor) -> Tensor:
        return self.net(rows).sigmoid()


class Halves(nn.Module):
    """Logits of all four tasks from a state half and an item half: two towers and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.state = nn.Linear(NUM_USER + 2 * NUM_TOPICS, 16)
        self.item = nn.Linear(NUM_DENSE + NUM_TOPICS, 16)
        self.head = nn.Linear(32, 4)

    def towers(self, user_RU: Tensor, counts_RT2: Tensor) -> Tensor:
        """[R, 16] of states."""
        return self.state(torch.cat([user_RU, counts_RT2.flatten(1)], dim=1))

    def match(self, state: Tensor, dense: Tensor, topic: Tensor) -> Tensor:
        """Logits [..., 4] of states and items [...] laid beside each other."""
        item = self.item(torch.cat([dense, one_hot(topic, NUM_TOPICS)], dim=-1))
        return self.head(torch.cat([state * item, item], dim=-1))

    def encode(self, batch: StateBatch) -> Tensor:
        return self.towers(batch.state.user_features, topic_counts(*history_topics(batch)))

    def score(self, encoding: Tensor, item_id: Tensor, items: ItemFeatures) -> Tensor:
        """Logits [B, K, 4] of candidates [B, K]."""
        state_BKD = encoding[:, None].expand(-1, item_id.shape[1], -1)
        return self.match(state_BKD, items.dense, items.categorical[..., 0])

    def forward(
        self, user_RU: Tensor, counts_RT2: Tensor, dense_RD: Tensor, topic_R: Tensor
    ) -> Tensor:
        """Logits [R, 4] of flat rows, as it was trained."""
        return self.match(self.towers(user_RU, counts_RT2), dense_RD, topic_R)
