"""What the worlds of the suite share: items, users, leaving; one file adds one mechanism.

Symbols: `B` sessions, `K` candidates, `N` items, `T` topics, `H` tasks.

A user has a taste over topics, half of it that of a visible cohort and half of it his or her own.
An item has a topic, a hidden quality, and a visible signal of it. Without a mechanism an item is
liked with the probability sigmoid(bias + taste of its topic + quality), whatever was shown before,
and users are called away at a constant rate: the world `steady`. All formulas here are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from recomind.data import TableCatalogue
from recomind.simulation import Hidden, World
from recomind.streams import LANE_BEGIN, LANE_WORLD, SessionStreams, hash_int64, hash_normal
from recomind.streams import hash_uniform as uniform_of
from recomind.types import Policy, Response, SessionState
from simulators.suite.logs import logging_policy

LIKED = 0  # column of the task `liked`, the first of every world of the suite
_SIGNAL = 0.7  # correlation of the visible signal with the hidden quality
_NUM_DRAWS = 4  # uniforms that a session's hidden state may begin with


class SuiteWorld(World):
    """A user who likes items by topic and quality, and is called away at a constant rate.

    Args:
        logging: who served before: `random`, `weak` or `ranker` (simulators/suite/logs.py).
        num_items: size of the catalogue.
        warm_events: events of earlier days in the history at the start of a session: random items
            shown to a rested user. They reveal taste.
        world_seed: selects items and users; `reset` selects sessions.
    """

    task_names: ClassVar[tuple[str, ...]] = ("liked",)
    rewarded: ClassVar[str] = "liked"
    num_topics: ClassVar[int] = 8
    num_cohorts: ClassVar[int] = 6
    bias: ClassVar[float] = -1.5  # logit of liking an average item
    taste_scale: ClassVar[float] = 1.2  # logits per standard deviation
    quality_scale: ClassVar[float] = 0.4  # logits per standard deviation
    interruption: ClassVar[float] = 0.03  # rate per step of being called away
    price: ClassVar[float] = 0.0  # rewards that a unit of `consequence` is worth, for look-ahead

    def __init__(
        self,
        *,
        logging: str = "weak",
        num_items: int = 1000,
        horizon: int = 30,
        history_length: int = 30,
        warm_events: int = 8,
        reward_weights: Mapping[str, float] | None = None,
        world_seed: int = 0,
    ) -> None:
        self.logging, self.world_seed = logging, world_seed
        self.warm_events = min(warm_events, history_length)
        keys_N = hash_int64(torch.arange(num_items), 1000 + world_seed)
        self.topic_N = (uniform_of(keys_N, 1) * self.num_topics).long()
        self.quality_N = hash_normal(keys_N, 2)
        signal_N = _SIGNAL * self.quality_N + (1 - _SIGNAL**2) ** 0.5 * hash_normal(keys_N, 3)
        dense = {"signal": signal_N} | self.content(keys_N)
        self.user_feature_names = [f"cohort_{c}" for c in range(self.num_cohorts)]
        self.user_feature_names += self.further_user_features()
        super().__init__(
            catalogue=TableCatalogue(
                torch.stack(list(dense.values()), dim=-1)[None],
                self.topic_N[:, None],
                dense_names=list(dense),
                categorical_names=["topic"],
                vocab_sizes=[self.num_topics],
            ),
            tasks=self.task_names,
            reward_weights=reward_weights or {self.rewarded: 1.0},
            horizon=horizon,
            history_length=history_length,
        )

    # What a mechanism defines.

    def content(self, keys_N: Tensor) -> dict[str, Tensor]:
        """Further visible content of items, name -> [N]; keep what the world needs of it."""
        del keys_N
        return {}

    def further_user_features(self) -> list[str]:
        """Names of visible features that `see` adds."""
        return []

    def see(self, hidden: Hidden) -> Tensor:
        """[B, U']: the further user features, as they are at the start."""
        return torch.zeros(len(hidden["taste"]), 0)

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """The hidden state at step 0."""
        del draws_BD
        return {"taste": taste_BT}

    def rates(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """True probability of every task [B, K, H], if the item were shown now."""
        return self.appeal(hidden, item_BK).sigmoid()[..., None]

    def change(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Hidden:
        """The hidden state after the event."""
        del item_B, feedback_BH
        return hidden

    def leave_rate(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Tensor:
        """Probability [B] of leaving, given the hidden state after the event."""
        del hidden, feedback_BH
        return torch.full(item_B.shape, self.interruption)

    def dwell_s(self, item_B: Tensor, feedback_BH: Tensor) -> Tensor:
        """Seconds [B] that the event takes."""
        del item_B
        return torch.where(feedback_BH[:, LIKED], 20.0, 4.0)

    def expected_reward(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """[B, K]: the reward of the next step, as the myopic reference sees it."""
        return self.rates(hidden, item_BK) @ self.reward_weights_H

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """[B, K]: what showing the item changes for later, in a unit that `price` makes rewards."""
        del hidden
        return torch.zeros(item_BK.shape)

    # What all worlds share.

    def appeal(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Logit [B, K] of liking, before any mechanism."""
        taste_BK = hidden["taste"].gather(1, self.topic_N[item_BK])
        return (
            self.bias + self.taste_scale * taste_BK + self.quality_scale * self.quality_N[item_BK]
        )

    def logging_policy(self) -> Policy:
        """The one that `logging` names."""
        return logging_policy(self)

    @property
    def present_users(self) -> Tensor:
        """[B] int64: the users of the running sessions, for references."""
        return self._state.user_id

    def cohort_taste(self, user_B: Tensor) -> Tensor:
        """[B, T]: what the visible cohort tells of the user's taste."""
        return 0.5**0.5 * hash_normal(self._topic_keys(self.cohort(user_B)), 3200 + self.world_seed)

    def cohort(self, user_B: Tensor) -> Tensor:
        """[B] int64."""
        return (uniform_of(user_B, 3000 + self.world_seed) * self.num_cohorts).long()

    def _topic_keys(self, key_B: Tensor) -> Tensor:
        return hash_int64(key_B, 7)[:, None] + torch.arange(self.num_topics) * 0x5851F42D

    def _begin(self, streams: SessionStreams) -> tuple[SessionState, Hidden]:
        user_B = hash_int64(streams.seeds) & (2**62 - 1)
        own_BT = 0.5**0.5 * hash_normal(self._topic_keys(user_B), 3300 + self.world_seed)
        step = torch.zeros(len(user_B), dtype=torch.int64)
        draws = streams.uniform(step, _NUM_DRAWS + 3 * self.warm_events, LANE_BEGIN)
        hidden = self.start(self.cohort_taste(user_B) + own_BT, draws[:, :_NUM_DRAWS])
        return self._warm_state(user_B, hidden, draws[:, _NUM_DRAWS:]), hidden

    def _warm_state(self, user_B: Tensor, hidden: Hidden, draws: Tensor) -> SessionState:
        """The state at step 0, with `warm_events` events of earlier days."""
        num, length, warm = len(user_B), self.history_length, self.warm_events
        cohort = one_hot(self.cohort(user_B), self.num_cohorts).float()
        state = SessionState(
            user_id=user_B,
            user_features=torch.cat([cohort, self.see(hidden)], dim=1),
            history_item_id=torch.zeros(num, length, dtype=torch.int64),
            history_feedback=torch.zeros(num, length, len(self.tasks), dtype=torch.bool),
            history_dwell_s=torch.zeros(num, length),
            history_gap_s=torch.zeros(num, length),  # the times of earlier days are unknown
            history_mask=torch.zeros(num, length, dtype=torch.bool),
            gap_s=torch.zeros(num),
            step=torch.zeros(num, dtype=torch.int64),
            batch_size=[num],
        )
        if warm:
            item_BW = (draws[:, :warm].double() * self.catalogue.num_items).long()
            liked_BW = draws[:, warm : 2 * warm] < self.appeal(hidden, item_BW).sigmoid()
            state.history_item_id[:, -warm:] = item_BW
            state.history_feedback[:, -warm:, LIKED] = liked_BW
            state.history_dwell_s[:, -warm:] = torch.where(liked_BW, 20.0, 4.0)
            state.history_mask[:, -warm:] = True
        return state

    def _respond(
        self, state: SessionState, hidden: Hidden, item_id: Tensor, streams: SessionStreams
    ) -> tuple[Response, Hidden]:
        draws = streams.uniform(state.step, len(self.tasks) + 1, LANE_WORLD)
        feedback = draws[:, :-1] < self.rates(hidden, item_id[:, None])[:, 0]
        hidden = self.change(hidden, item_id, feedback)
        response = Response(
            feedback=feedback,
            dwell_s=self.dwell_s(item_id, feedback),
            left=draws[:, -1] < self.leave_rate(hidden, item_id, feedback),
            batch_size=[len(item_id)],
        )
        return response, hidden
