"""A fixed summary of a session, the input of the fatigue and leave models.

Symbols: `B` states, `L` history length, `H` tasks, `F` dense item features, `M` summary features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.ranker import Events, events_of
from recomind.types import Catalogue, SessionState

DECAY_STEPS = (2.0, 6.0, 1e9)  # e-folding lengths of the session sums; the last is a plain sum


def summary_size(num_tasks: int, num_user_features: int, num_dense: int) -> int:
    """`M` for `summarise`."""
    return len(DECAY_STEPS) * (num_tasks + 2 + 2 * num_dense) + 3 + num_user_features


def summarise(state: SessionState, catalogue: Catalogue, snapshot: Tensor | None = None) -> Tensor:
    """[B, M] float32: how the session is going, and the user's features.

    Decayed sums over the events of the present session of: feedback, minutes, a count, and the
    items' dense content, once over all items and once over those with a positive first task. The
    content is needed beside the feedback: a poor video that was watched to its end looks like a
    success in the feedback alone, yet makes users leave.
    """
    return summary_of(state, event_parts(events_of(state), catalogue, snapshot))


def event_parts(events: Events, catalogue: Catalogue, snapshot: Tensor | None = None) -> Tensor:
    """[B, L, H + 2 + 2F]: the summands of each event; zeros outside the present session."""
    minutes_BL1 = (events.history_dwell_s / 60.0).clamp(max=10.0)[..., None]
    inside_BL1 = events.in_session.float()[..., None]
    if snapshot is not None:
        snapshot = snapshot[:, None].expand_as(events.history_item_id)
    content_BLF = catalogue.features(events.history_item_id, snapshot).dense
    feedback_BLH = events.history_feedback.float()
    parts_BLF = torch.cat(
        [
            feedback_BLH,
            minutes_BL1,
            torch.ones_like(minutes_BL1),
            content_BLF,
            content_BLF * feedback_BLH[..., :1],
        ],
        dim=-1,
    )
    return parts_BLF * inside_BL1


def summary_of(state: SessionState, parts_BLF: Tensor, first: int = 0) -> Tensor:
    """The summary [B, M] of `state`, given `event_parts` of its events.

    The parts are a ring buffer, whose oldest event is at `first`.
    """
    age_L = torch.arange(parts_BLF.shape[1] - 1, -1, -1, dtype=torch.float32)
    weight_RL = torch.stack([torch.exp(-age_L / steps) for steps in DECAY_STEPS])
    if first:
        weight_RL = weight_RL.roll(first, 1)
    sums = (weight_RL @ parts_BLF).flatten(1)
    step = state.step.float()[:, None]
    time = torch.cat([torch.log1p(step), step / 20.0, (step == 0).float()], dim=-1)
    return torch.cat([sums, time, state.user_features], dim=-1)
