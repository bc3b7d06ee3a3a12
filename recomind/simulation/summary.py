"""A fixed summary of a session, the input of the fatigue and leave models.

Symbols: `B` states, `L` history length, `H` tasks, `F` features of an item's content, `C`
categorical ones, `D` decays, `P` numbers of an event, `M` summary features.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from recomind.ranker import Events, events_of
from recomind.types import Catalogue, ItemFeatures, SessionState

DECAY_STEPS = (2.0, 6.0, 1e9)  # e-folding lengths of the session sums; the last is a plain sum
MAX_VALUES = 64  # values of categories that are summed up, a column each


class SessionSummary:
    """How a session is going, as numbers.

    Decayed sums over the events of the present session of: feedback, minutes, a count, and the
    items' content, once over all items and once over those with a positive first task. The content
    is needed beside the feedback: a poor video that was watched to its end looks like a success in
    the feedback alone, yet makes users leave.

    With `categories` content is also a 0/1 column for each value of the categorical features that
    have few values. The largest sums of such a feature are added, whatever the value, and what the
    latest event had in common with the session (`likeness`). Without it nobody tires of a topic
    that is a category and no number. All ours.

    Args:
        catalogue: content of items.
        categories: whether categories count.
    """

    def __init__(self, catalogue: Catalogue, categories: bool) -> None:
        self.catalogue, self.categories = catalogue, categories
        self._columns = _columns(catalogue) if categories else []
        self._num_codes = len(catalogue.categorical_names) if categories else 0
        self._num_dense = len(catalogue.dense_names)
        self._num_content = self._num_dense + sum(size for _, size in self._columns)

    @property
    def num_likeness(self) -> int:
        """Columns that say what an item has in common with a session."""
        return (self._num_codes + 1) * 2 * len(DECAY_STEPS) if self.categories else 0

    def size(self, num_tasks: int, num_user_features: int, *, shown: bool = False) -> int:
        """`M`; with `shown`, of a summary for an item."""
        sums = num_tasks + 2 + 2 * (self._num_content + len(self._columns))
        likeness = self.num_likeness * (2 if shown else 1)
        return len(DECAY_STEPS) * sums + 3 + num_user_features + likeness

    def __call__(
        self, state: SessionState, snapshot: Tensor | None = None, shown: Tensor | None = None
    ) -> Tensor:
        """[B, M] float32: the session, the time in it, and the user's features.

        With `shown` [B], the items that are shown next, also what they have in common with it.
        """
        parts_BLP = self.parts(events_of(state), snapshot)
        return self.from_parts(state, parts_BLP, shown=shown, snapshot=snapshot)

    def parts(self, events: Events, snapshot: Tensor | None = None) -> Tensor:
        """[B, L, P]: summands of each event, zeros outside the session, and its categories."""
        minutes_BL1 = (events.history_dwell_s / 60.0).clamp(max=10.0)[..., None]
        inside_BL1 = events.in_session.float()[..., None]
        if snapshot is not None:
            snapshot = snapshot[:, None].expand_as(events.history_item_id)
        features = self.catalogue.features(events.history_item_id, snapshot)
        content_BLF = self._content(features)
        feedback_BLH = events.history_feedback.float()
        parts_BLP = torch.cat(
            [
                feedback_BLH,
                minutes_BL1,
                torch.ones_like(minutes_BL1),
                content_BLF,
                content_BLF * feedback_BLH[..., :1],
            ],
            dim=-1,
        )
        parts_BLP = parts_BLP * inside_BL1
        return (
            torch.cat([parts_BLP, features.categorical.float()], -1)
            if self._num_codes
            else parts_BLP
        )

    def from_parts(
        self,
        state: SessionState,
        parts_BLP: Tensor,
        first: int = 0,
        *,
        shown: Tensor | None = None,
        snapshot: Tensor | None = None,
    ) -> Tensor:
        """The summary [B, M] of `state`, given the `parts` of its events.

        The parts are a ring buffer, whose oldest event is at `first`.
        """
        weight_DL = _weights(parts_BLP.shape[1], first)
        num_sums = parts_BLP.shape[-1] - self._num_codes
        sums_BDP = (weight_DL @ parts_BLP)[..., :num_sums]
        step = state.step.float()[:, None]
        time = torch.cat([torch.log1p(step), step / 20.0, (step == 0).float()], dim=-1)
        summary = [sums_BDP.flatten(1), time, state.user_features]
        if self.categories:
            latest_B = state.history_item_id[:, -1]
            items = latest_B[:, None] if shown is None else torch.stack([latest_B, shown], dim=1)
            summary += self._largest(sums_BDP)
            summary.append(self._likeness(state, parts_BLP, first, weight_DL, items, snapshot))
        return torch.cat(summary, dim=-1)

    def _likeness(
        self,
        state: SessionState,
        parts_BLP: Tensor,
        first: int,
        weight_DL: Tensor,
        item_BI: Tensor,
        snapshot: Tensor | None,
    ) -> Tensor:
        """[B, I * num_likeness]: how much of the session was like each of some items.

        Decayed counts of the session's events with the same item, and with the same value of each
        categorical feature, however many values it has; and of those with a positive first task.
        """
        history_BL = state.history_item_id.roll(first, 1) if first else state.history_item_id
        same = history_BL[:, None, None] == item_BI[:, None, :, None]
        if self._num_codes:
            if snapshot is not None:
                snapshot = snapshot[:, None].expand_as(item_BI)
            code_BIC = self.catalogue.features(item_BI, snapshot).categorical.float()
            seen_BCL = parts_BLP[..., -self._num_codes :].transpose(1, 2)
            alike = seen_BCL[:, :, None] == code_BIC.transpose(1, 2)[..., None]
            same = torch.cat([same, alike], dim=1)
        count = state.history_feedback.shape[-1] + 1  # its column; that of the first task is 0
        counted_BNL = torch.stack([parts_BLP[..., count], parts_BLP[..., 0]], dim=1)
        both = same[:, :, :, None] * counted_BNL[:, None, None]  # [B, 1 + C, I, 2, L]
        return (both @ weight_DL.T).transpose(1, 2).flatten(1)

    def _largest(self, sums_BDP: Tensor) -> list[Tensor]:
        """[B, D] each: the most that one value of a category was shown, and that it was liked."""
        first = sums_BDP.shape[-1] - 2 * self._num_content + self._num_dense
        found: list[Tensor] = []
        for _, size in self._columns:
            for start in (first, first + self._num_content):
                found.append(sums_BDP[..., start : start + size].amax(-1))
            first += size
        return found

    def _content(self, features: ItemFeatures) -> Tensor:
        values = [
            torch.nn.functional.one_hot(features.categorical[..., c], size).float()
            for c, size in self._columns
        ]
        return torch.cat([features.dense, *values], dim=-1) if values else features.dense


def summarise(state: SessionState, catalogue: Catalogue, snapshot: Tensor | None = None) -> Tensor:
    """[B, M] float32: the summary of `state` by feedback and dense content."""
    return SessionSummary(catalogue, categories=False)(state, snapshot)


def _weights(length: int, first: int) -> Tensor:
    """[D, L]: the weights of the events of a ring buffer, whose oldest is at `first`."""
    age_L = torch.arange(length - 1, -1, -1, dtype=torch.float32)
    weight_DL = torch.stack([torch.exp(-age_L / steps) for steps in DECAY_STEPS])
    return weight_DL.roll(first, 1) if first else weight_DL


def few_valued(catalogue: Catalogue, among: Iterable[int]) -> list[tuple[int, int]]:
    """Index and size of the categorical features `among` these whose values get a column each.

    Those with few values come first, up to `MAX_VALUES` columns in all. Ids are left out.
    """
    found, left = [], MAX_VALUES
    for size, c in sorted((catalogue.vocab_sizes[c], c) for c in among):
        if 1 < size <= left and size < catalogue.num_items:
            found.append((c, size))
            left -= size
    return found


def _columns(catalogue: Catalogue) -> list[tuple[int, int]]:
    """`few_valued`, but for what is there as dense columns (`feature=value`, `simulators.gym`)."""
    among = [
        c
        for c, name in enumerate(catalogue.categorical_names)
        if not any(dense.startswith(f"{name}=") for dense in catalogue.dense_names)
    ]
    return sorted(few_valued(catalogue, among))
