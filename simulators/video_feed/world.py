"""`video_feed`: a short-video feed whose truth is known.

A user has a hidden taste over topics, a fatigue per topic and a patience. Whether a video engages
depends on taste, quality, age and the fatigue of its topic; an engaged user watches a share of the
duration, others skip within seconds. Seeing a topic tires the user of it; fatigue recovers while
other topics are shown. Patience rises with engaging videos of good quality and falls with skipped
or poor ones and with time; the user leaves when it is used up. All formulas are ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recomind.simulation import Hidden, World
from recomind.streams import LANE_BEGIN, LANE_WORLD, SessionStreams, hash_uniform
from recomind.types import Policy, Response, SessionState
from simulators.video_feed.catalogue import HashedCatalogue, HashedUsers, Items
from simulators.video_feed.logging_policy import LoggingPolicy
from simulators.video_feed.presets import WorldParameters, preset

TASKS = ("watch_10s", "long_view", "like", "hide")
_NUM_USERS = 2**40  # so many that every session has its own user
_WATCH_S, _LONG_VIEW_S = 10.0, 18.0
_DAY_MS, _FIRST_DAY_MS = 86_400_000, 20_454 * 86_400_000  # 2026-01-01


class VideoFeed(World):
    """The embedded world.

    Args:
        preset_name: `fatigue`, `steady`, `confounded` or `drift`.
        num_items: size of the catalogue; the cost does not depend on it.
        warm_events: events of earlier days in the history at the start of a session. They were
            random items shown to a rested user, so they reveal taste, not the session.
        world_seed: selects users and items; `reset` selects sessions.
    """

    def __init__(
        self,
        *,
        preset_name: str = "fatigue",
        num_items: int = 10_000,
        horizon: int = 40,
        history_length: int = 40,
        warm_events: int = 12,
        reward_weights: Mapping[str, float] | None = None,
        world_seed: int = 0,
    ) -> None:
        self.parameters: WorldParameters = preset(preset_name)
        self.preset_name, self.warm_events = preset_name, min(warm_events, history_length)
        self.world_seed = world_seed
        self.items = HashedCatalogue(num_items, self.parameters, world_seed)
        self.users = HashedUsers(self.parameters, world_seed)
        self.user_feature_names = self.users.feature_names
        super().__init__(
            catalogue=self.items,
            tasks=TASKS,
            reward_weights=reward_weights or {"watch_10s": 1.0},
            horizon=horizon,
            history_length=history_length,
        )

    def logging_policy(self) -> Policy:
        """Visible quality and the cohort's taste, with exploration."""
        return LoggingPolicy(self.items, self.users)

    def begins_ms(self) -> Tensor | None:
        """[B]: in the second of the day on which the session's user comes; None without days."""
        if self.parameters.num_days == 1:
            return None
        users = self.present_users
        in_day = hash_uniform(users, 3600 + self.world_seed).double()
        return _FIRST_DAY_MS + ((self.users.day(users) + in_day) * _DAY_MS).long()

    def items_of(self, item_id: Tensor, user_id: Tensor) -> Items:
        """Attributes of `item_id` [B, K] on the day of each of `user_id` [B]."""
        return self.items.items(item_id, self.users.day(user_id)[:, None])

    @property
    def present_users(self) -> Tensor:
        """[B] int64: the users of the running sessions, for oracles."""
        return self._state.user_id

    def _begin(self, streams: SessionStreams) -> tuple[SessionState, Hidden]:
        zero = torch.zeros(len(streams.seeds), dtype=torch.int64)
        user_id = (hash_uniform(streams.seeds, 11).double() * _NUM_USERS).long() ^ (
            streams.seeds & 0xFFFFF
        )
        p, activity = self.parameters, self.users.activity(user_id)
        low, high = p.patience_start
        hidden = {
            "taste": self.users.taste(user_id),
            "fatigue": torch.zeros(len(zero), p.num_topics),
            "patience": low + (high - low) * activity,
        }
        return self._warm_state(user_id, hidden, streams), hidden

    def _warm_state(self, user_id: Tensor, hidden: Hidden, streams: SessionStreams) -> SessionState:
        """The state at step 0, with `warm_events` events of earlier days."""
        num, length, warm = len(user_id), self.history_length, self.warm_events
        state = SessionState(
            user_id=user_id,
            user_features=self.users.features(user_id),
            history_item_id=torch.zeros(num, length, dtype=torch.int64),
            history_feedback=torch.zeros(num, length, len(TASKS), dtype=torch.bool),
            history_dwell_s=torch.zeros(num, length),
            history_gap_s=torch.zeros(num, length),  # the times of earlier days are unknown
            history_mask=torch.zeros(num, length, dtype=torch.bool),
            gap_s=torch.zeros(num),
            step=torch.zeros(num, dtype=torch.int64),
            batch_size=[num],
        )
        if warm == 0:
            return state
        draws = streams.uniform(state.step, warm * 6, LANE_BEGIN).reshape(num, warm, 6)
        item_id = (draws[..., 5].double() * self.items.num_items).long()
        items = self.items_of(item_id, user_id)
        appeal = self.appeal(items, hidden["taste"], torch.zeros_like(hidden["fatigue"]))
        feedback, dwell_s, _ = self._outcome(items, appeal, torch.zeros_like(appeal), draws)
        state.history_item_id[:, -warm:] = item_id
        state.history_feedback[:, -warm:] = feedback
        state.history_dwell_s[:, -warm:] = dwell_s
        state.history_mask[:, -warm:] = True
        return state

    def appeal(self, items: Items, taste_BT: Tensor, fatigue_BT: Tensor) -> Tensor:
        """Logit [B, K] that a video engages the user, for `items` [B, K]."""
        p = self.parameters
        return (
            p.appeal_bias
            + p.taste_scale * taste_BT.gather(1, items.topic)
            + p.quality_scale * items.quality
            - p.fatigue_scale * fatigue_BT.gather(1, items.topic)
            - p.age_penalty * items.age_days / 30.0
        )

    def _outcome(
        self, items: Items, appeal: Tensor, fatigue: Tensor, draws: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Feedback [..., H], dwell_s [...] and engaged [...] from uniforms `draws` [..., >= 5]."""
        p = self.parameters
        engaged = draws[..., 0] < appeal.sigmoid()
        normal = torch.special.ndtri(draws[..., 1])
        share = p.watch_share_median * torch.exp(p.watch_share_sigma * normal)
        skip_s = p.skip_dwell_median_s * torch.exp(p.skip_dwell_sigma * normal)
        dwell_s = torch.where(
            engaged, (share * items.duration_s).clamp(max=2.0 * items.duration_s), skip_s
        )
        watch = dwell_s > _WATCH_S
        long_view = dwell_s >= items.duration_s.clamp(max=_LONG_VIEW_S)
        like = watch & engaged & (draws[..., 2] < (p.like_bias + 0.8 * items.quality).sigmoid())
        hide_logit = p.hide_bias + 2.0 * fatigue - 0.5 * items.quality
        hide = ~engaged & (draws[..., 3] < hide_logit.sigmoid())
        return torch.stack([watch, long_view, like, hide], dim=-1), dwell_s, engaged

    def patience_change(self, items: Items, engaged: Tensor, dwell_s: Tensor) -> Tensor:
        """[...] change of patience: by the video (good, poor or skipped), minus its time."""
        p = self.parameters
        enjoyment = p.patience_gain * (2.0 * torch.sigmoid(1.5 * items.quality) - 1.0)
        given = torch.where(engaged, enjoyment, -p.patience_loss)
        return given - p.patience_per_minute * dwell_s / 60.0

    def _respond(
        self, state: SessionState, hidden: Hidden, item_id: Tensor, streams: SessionStreams
    ) -> tuple[Response, Hidden]:
        draws = streams.uniform(state.step, 6, LANE_WORLD)
        items = self.items_of(item_id[:, None], state.user_id)
        appeal = self.appeal(items, hidden["taste"], hidden["fatigue"])
        fatigue = hidden["fatigue"].gather(1, items.topic)
        feedback, dwell_s, engaged = self._outcome(items, appeal, fatigue, draws[:, None])
        hidden, left = self._carry_over(hidden, items, engaged, dwell_s, draws[:, 4])
        response = Response(
            feedback=feedback[:, 0], dwell_s=dwell_s[:, 0], left=left, batch_size=[len(item_id)]
        )
        return response, hidden

    def _carry_over(
        self, hidden: Hidden, items: Items, engaged_B1: Tensor, dwell_s_B1: Tensor, draw: Tensor
    ) -> tuple[Hidden, Tensor]:
        p = self.parameters
        if not p.carry_over:
            return hidden, draw < p.steady_hazard
        fatigue = self.tire(hidden["fatigue"], items.topic)
        change = self.patience_change(items, engaged_B1, dwell_s_B1)[:, 0]
        patience = (hidden["patience"] + change).clamp(max=p.patience_limit)
        left = (patience <= 0.0) | (draw < p.interruption_hazard)
        return {"taste": hidden["taste"], "fatigue": fatigue, "patience": patience}, left

    def tire(self, fatigue_BT: Tensor, topic_B1: Tensor) -> Tensor:
        """Topic fatigue [B, T] after one video of `topic_B1` [B, 1]."""
        p = self.parameters
        rested = fatigue_BT * torch.exp(torch.tensor(-1.0 / p.fatigue_recovery_steps))
        tired = rested.gather(1, topic_B1)
        return rested.scatter(1, topic_B1, tired + p.fatigue_gain * (1.0 - tired))
