"""What a user did, as vectors: events, and a causal transformer over the recent ones.

Symbols: `B` states, `L` history length, `T` recent events, `D` width, `H` tasks.

In the manner of TransAct V2 (Xia et al., arXiv:2506.02267): an event is its item, what was done
with it, for how long, and how long after the event before. Distances between events enter as a
linear bias (ALiBi; Press, Smith, Lewis, ICLR 2022), not as positions, so that an event's keys and
values do not change when the history moves on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recomind.ranker.config import RankerConfig
from recomind.types import SessionState

_MINUTE_S, _DAY_S = 60.0, 86_400.0
_INITIAL_DECAY = (0.02, 0.2, 1.0)  # per event; learned from there
_NUM_EXTRAS = 6
_NUM_LAST = 3  # events told one by one
_WINDOWS = (10, 20)  # events of the means


EVENT_FIELDS = (
    "history_item_id",
    "history_mask",
    "history_dwell_s",
    "history_gap_s",
    "history_feedback",
)


@dataclass(kw_only=True, slots=True)
class Events:
    """All that the vectors of events depend on; the fields are those of `SessionState`."""

    history_item_id: Tensor  # [B, L]
    history_mask: Tensor  # [B, L]
    history_dwell_s: Tensor  # [B, L]
    history_gap_s: Tensor  # [B, L]
    history_feedback: Tensor  # [B, L, H]
    in_session: Tensor  # [B, L]


def events_of(state: SessionState) -> Events:
    """The events of `state` [B]."""
    histories = {name: getattr(state, name) for name in EVENT_FIELDS}
    return Events(**histories, in_session=state.in_session)


class EventEncoder(nn.Module):
    """Event vectors: the item, what was done with it, for how long, and when."""

    def __init__(self, num_tasks: int, config: RankerConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.dim + num_tasks + _NUM_EXTRAS, config.dim)

    def forward(self, item: Tensor, numbers: Tensor, mask: Tensor | None = None) -> Tensor:
        """Vectors [..., D] of items [..., D] and `event_numbers`; zeros where there is no event."""
        event = nn.functional.gelu(self.linear(torch.cat([item, numbers], dim=-1)))
        return event if mask is None else event * mask[..., None]


def event_numbers(events: Events) -> Tensor:
    """What was done with each item of the history, for how long and when, [B, L, H + 6]."""
    dwell_s, gap_s = events.history_dwell_s, events.history_gap_s
    return numbers_of_events(events.history_feedback, dwell_s, gap_s, events.in_session)


def numbers_of_events(
    feedback: Tensor, dwell_s: Tensor, gap_s: Tensor, in_session: Tensor
) -> Tensor:
    """The same [..., H + 6] for any shape; whether the event is of the session comes last."""
    extras = [
        torch.log1p(dwell_s) / 3.0,
        (dwell_s / _MINUTE_S).clamp(max=5.0),
        *_gap_features(gap_s),
        in_session.float(),
    ]
    return torch.cat([feedback.float(), torch.stack(extras, dim=-1)], dim=-1)


def _gap_features(gap_s: Tensor) -> list[Tensor]:
    """Three views of a time gap: its size, whether it is known, whether it is a break."""
    return [torch.log1p(gap_s) / 10.0, (gap_s > 0).float(), (gap_s / _DAY_S).clamp(max=3.0)]


def progress_features(state: SessionState) -> Tensor:
    """[B, 5]: where in the session the state is, and how long after the last event."""
    step = state.step.clamp(min=0).float()  # it is -1 at events from before the log
    return torch.stack([torch.log1p(step), step / 20.0, *_gap_features(state.gap_s)], dim=-1)


NUM_PROGRESS = 5


def num_tallies(num_tasks: int) -> int:
    """Numbers of `tallies` for H tasks."""
    return (_NUM_LAST + len(_WINDOWS)) * (num_tasks + 1) + 1


def tallies(state: SessionState) -> Tensor:
    """What a sequence model would have to learn to count, [B, num_tallies].

    The feedback and log dwell time of the last three events, their means over the last 10 and 20,
    and how many events there are. Ours; on KuaiRand they are worth .001 AUC, given to the wide
    part.
    """
    mask_BL1 = state.history_mask[:, -max(_WINDOWS) :, None].float()
    log_dwell = torch.log1p(state.history_dwell_s[:, -max(_WINDOWS) :])[..., None]
    feedback_BLH = state.history_feedback[:, -max(_WINDOWS) :].float()
    told_BLH = torch.cat([feedback_BLH, log_dwell], dim=-1) * mask_BL1
    missing = max(0, _NUM_LAST - told_BLH.shape[1])
    last = nn.functional.pad(told_BLH[:, -_NUM_LAST:], (0, 0, missing, 0)).flatten(1)
    means = [told_BLH[:, -n:].sum(1) / mask_BL1[:, -n:].sum(1).clamp(min=1) for n in _WINDOWS]
    num = torch.log1p(state.history_mask.sum(1, keepdim=True).float())
    return torch.cat([last, *means, num], dim=-1)


def tallies_of_log(feedback_EH: Tensor, dwell_s: Tensor, num_before: Tensor, length: int) -> Tensor:
    """The `tallies` [E, num_tallies] before each row of a log, without a history for each.

    Args:
        feedback_EH: of the rows, timeline after timeline.
        dwell_s: [E].
        num_before: [E], how many rows of its timeline come before each.
        length: of the histories.
    """
    told = torch.cat([feedback_EH.float(), torch.log1p(dwell_s)[:, None]], dim=1)
    num_before = num_before.clamp(max=length)
    columns = []
    for age in range(_NUM_LAST, 0, -1):
        there = (num_before >= age)[:, None]
        columns.append(told.roll(age, 0) * there)
    until = torch.arange(len(told))
    sums = nn.functional.pad(told.double().cumsum(0), (0, 0, 1, 0))  # float32 would lose the last
    for window in _WINDOWS:
        num = num_before.clamp(max=window)
        total = sums[until] - sums[until - num]
        columns.append((total / num.clamp(min=1)[:, None]).float())
    columns.append(torch.log1p(num_before.float())[:, None])
    return torch.cat(columns, dim=1)


def yes_no_tallies(num_tasks: int) -> list[int]:
    """Which of the `tallies` are 0 or 1: the feedback of the last events."""
    return [n * (num_tasks + 1) + h for n in range(_NUM_LAST) for h in range(num_tasks)]


@dataclass(slots=True)
class StateParts:
    """What is computed from a state [B] for every ranker, whatever its weights.

    Histories are rings, in which the oldest event stands at `first`.
    """

    first: int
    tallies_BT: Tensor
    progress_B5: Tensor
    inside_BL: Tensor  # [B, L] bool, events of the session
    mask_BL: Tensor  # [B, L] bool
    counts_B2L: Tensor  # the two as float32


def state_parts(state: SessionState, first: int = 0, alike: StateParts | None = None) -> StateParts:
    """The parts of `state` [B]; `alike` are its parts for rings that begin elsewhere."""
    inside_BL, mask_BL = state.in_session, state.history_mask
    if first:
        inside_BL, mask_BL = inside_BL.roll(first, 1), mask_BL.roll(first, 1)
    return StateParts(
        first=first,
        tallies_BT=tallies(state) if alike is None else alike.tallies_BT,
        progress_B5=progress_features(state) if alike is None else alike.progress_B5,
        inside_BL=inside_BL,
        mask_BL=mask_BL,
        counts_B2L=torch.stack([inside_BL, mask_BL], dim=1).float(),
    )


class DecayPool(nn.Module):
    """Sums of events under learned exponential decays, over the session and over all."""

    def __init__(self) -> None:
        super().__init__()
        self.log_decay = nn.Parameter(torch.tensor(_INITIAL_DECAY).log())

    @property
    def num_sums(self) -> int:
        """Sums that come out, each of an event's width."""
        return 2 * len(_INITIAL_DECAY)

    def forward(self, event_BLD: Tensor, parts: StateParts) -> Tensor:
        """[B, num_sums * D]; a sum, not a mean: how much there was has to stay visible.

        The events are a ring that begins where the rings of `parts` do.
        """
        length = event_BLD.shape[1]
        age_L = torch.arange(length - 1, -1, -1, dtype=torch.float32, device=event_BLD.device)
        weight_RL = self.weights(age_L)
        if parts.first:
            weight_RL = weight_RL.roll(parts.first, 1)
        weights_BSL = (parts.counts_B2L[:, :, None] * weight_RL).flatten(1, 2)
        return (weights_BSL @ event_BLD).flatten(1)

    def weights(self, age: Tensor) -> Tensor:
        """Weights [R, ...] of events by how many events ago they were, 0 for the latest."""
        rate = self.log_decay.exp().view(-1, *[1] * age.dim())
        # The scale depends on the decay alone: more padding has to leave the sums as they are.
        return (1.0 - torch.exp(-rate)).sqrt() * torch.exp(-rate * age)


class CausalLayer(nn.Module):
    """A pre-norm transformer layer in which an event attends to itself and earlier ones."""

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.num_heads = config.num_heads
        self.norm_attention, self.norm_mixing = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        last = nn.Linear(2 * dim, dim)
        self.mixing = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), last)
        # A layer starts as the identity, so that adding one cannot hurt before it has learned.
        for linear in (self.out, last):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, event_BTD: Tensor, bias_BNTT: Tensor) -> Tensor:
        """Events [B, T, D] in context; `bias_BNTT` is added to the attention's logits."""
        size, length, dim = event_BTD.shape
        parts = self.query_key_value(self.norm_attention(event_BTD))
        parts = parts.view(size, length, 3, self.num_heads, dim // self.num_heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias_BNTT)
        seen = seen.transpose(1, 2).reshape(size, length, dim)
        event_BTD = event_BTD + self.out(seen)
        return event_BTD + self.mixing(self.norm_mixing(event_BTD))


class CausalTransformer(nn.Module):
    """Events in the context of the events before them; without layers, the events as they are."""

    slope_N: Tensor  # per head, of the distance

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CausalLayer(config) for _ in range(config.num_layers))
        heads = torch.arange(1, config.num_heads + 1)
        self.register_buffer("slope_N", 2.0 ** (-8.0 * heads / config.num_heads), persistent=False)

    def forward(self, event_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """Vectors [B, T, D]; zeros where `mask_BT` is False."""
        if not self.layers:
            return event_BTD
        bias_BNTT = self._bias(mask_BT)
        for layer in self.layers:
            event_BTD = layer(event_BTD, bias_BNTT)
        return event_BTD * mask_BT[..., None]

    def _bias(self, mask_BT: Tensor) -> Tensor:
        """[B, N, T, T]: -slope * distance; -inf for later events, -1e9 for padding.

        Padding's logit is finite, since it comes before all events: its rows of -inf alone would
        be NaN. One sum over [B, N, T, T] makes it all: at T = 200 memory is what this costs.
        """
        place = torch.arange(mask_BT.shape[1], device=mask_BT.device)
        distance_TT = (place[:, None] - place).float()
        bias_NTT = -self.slope_N[:, None, None] * distance_TT
        bias_NTT = bias_NTT.masked_fill(distance_TT < 0, -torch.inf)
        padding_BT = torch.zeros_like(mask_BT, dtype=bias_NTT.dtype).masked_fill(~mask_BT, -1e9)
        return bias_NTT + padding_BT[:, None, None, :]
