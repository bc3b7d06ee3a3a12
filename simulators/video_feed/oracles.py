"""Oracles of the embedded world: policies that read its hidden state.

They bound what a learned policy can reach; nothing is ever trained on them.
"""

from __future__ import annotations

from math import exp

import torch
from torch import Tensor

from recomind.types import Candidates, Decision, SessionState
from simulators.video_feed.catalogue import Items
from simulators.video_feed.world import VideoFeed


def greedy(scores_BK: Tensor, candidates: Candidates) -> Decision:
    """The best-scored candidate of each session, chosen with probability 1."""
    slot = scores_BK.masked_fill(~candidates.mask, -torch.inf).argmax(dim=1)
    return Decision(
        slot=slot,
        item_id=candidates.item_id.gather(1, slot[:, None])[:, 0],
        log_propensity=torch.zeros(len(slot)),
        batch_size=[len(slot)],
    )


class Oracle:
    """Reads the hidden state and maximises the true next reward plus priced consequences.

    score = E[watch_10s] + patience_price * E[change of patience]
          - fatigue_price * (taste of the topic)+ * (fatigue that the video adds)

    With both prices 0 it is the myopic oracle. The look-ahead oracle's prices are the best of a
    fixed grid on separate sessions (`experiments/presets`); it is a strong policy, not a proven
    optimum, so its headroom is a lower bound. Ours.
    """

    def __init__(
        self, world: VideoFeed, *, patience_price: float = 0.0, fatigue_price: float = 0.0
    ) -> None:
        self.world = world
        self.patience_price, self.fatigue_price = patience_price, fatigue_price

    def act(self, state: SessionState, candidates: Candidates, uniforms: Tensor) -> Decision:
        """One candidate a session."""
        world, hidden = self.world, self._hidden_of(state.user_id)
        items = world.items_of(candidates.item_id, state.user_id)
        appeal = world.appeal(items, hidden["taste"], hidden["fatigue"])
        scores = expected_watch(world, items, appeal)
        if world.parameters.carry_over:
            scores = scores + self.patience_price * expected_patience(world, items, appeal)
            fatigue = hidden["fatigue"].gather(1, items.topic)
            taste = hidden["taste"].gather(1, items.topic).clamp(min=0.0)
            added = world.parameters.fatigue_gain * (1.0 - fatigue)
            scores = scores - self.fatigue_price * taste * added
        return greedy(scores, candidates)

    def _hidden_of(self, user_id: Tensor) -> dict[str, Tensor]:
        """Hidden tensors of the given users, who must be in the world now."""
        present, order = self.world.present_users.sort()
        rows = order[torch.searchsorted(present, user_id)]
        return {name: value[rows] for name, value in self.world.hidden.items()}


def _exceeds(threshold_s: Tensor, median_s: Tensor, sigma: float) -> Tensor:
    """P(lognormal > threshold)."""
    return torch.special.ndtr((median_s / threshold_s).log() / sigma)


def expected_watch(world: VideoFeed, items: Items, appeal: Tensor) -> Tensor:
    """True P(watch_10s) [B, K]."""
    p, engaged = world.parameters, appeal.sigmoid()
    ten = torch.full_like(appeal, 10.0)
    median = p.watch_share_median * items.duration_s
    watched = _exceeds(ten, median, p.watch_share_sigma) * (2.0 * items.duration_s > ten)
    skipped = _exceeds(ten, torch.full_like(appeal, p.skip_dwell_median_s), p.skip_dwell_sigma)
    return engaged * watched + (1.0 - engaged) * skipped


def expected_patience(world: VideoFeed, items: Items, appeal: Tensor) -> Tensor:
    """True E[change of patience] [B, K], before the limit."""
    p, engaged = world.parameters, appeal.sigmoid()
    always, never = torch.ones_like(appeal).bool(), torch.zeros_like(appeal).bool()
    watch_s = items.duration_s * p.watch_share_median * exp(0.5 * p.watch_share_sigma**2)
    skip_s = torch.full_like(watch_s, p.skip_dwell_median_s * exp(0.5 * p.skip_dwell_sigma**2))
    return engaged * world.patience_change(items, always, watch_s) + (1.0 - engaged) * (
        world.patience_change(items, never, skip_s)
    )
