"""Parts of states: the events that a cache asks an encoder for.

Symbols: `B` sessions, `L` history length, `n` events.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.ranker.history import EVENT_FIELDS, Events
from recomind.streams import hash_int64
from recomind.types import SessionState


def fields_of(state: SessionState) -> tuple[Tensor, ...]:
    """The tensors of the history of `state` [B]."""
    return tuple(getattr(state, name) for name in EVENT_FIELDS)


def trace(item_id_BL: Tensor) -> Tensor:
    """[B] int64: a hash of each session's items; other items give another, but for coincidence."""
    place_L = torch.arange(item_id_BL.shape[1], device=item_id_BL.device)
    return (item_id_BL * hash_int64(place_L)).sum(1)


def newest(state: SessionState) -> Events:
    """The last event of every session, as histories of one event."""
    mask_B1 = state.history_mask[:, -1:]
    latest = {name: getattr(state, name)[:, -1:] for name in EVENT_FIELDS}
    return Events(**latest, in_session=mask_B1 & (state.step[:, None] >= 1))


def some_events(state: SessionState, session: Tensor, column: Tensor) -> Events:
    """The events [n] at `session` [n] and `column` [n], as histories of one event."""
    length = state.history_mask.shape[1]
    place = session * length + column
    histories = {
        name: getattr(state, name).flatten(0, 1).index_select(0, place)[:, None]
        for name in EVENT_FIELDS
    }
    inside = histories["history_mask"] & (length - column <= state.step[session])[:, None]
    return Events(**histories, in_session=inside)


def joined(groups: list[Events]) -> Events:
    """The events of all groups, one after the other."""
    if len(groups) == 1:
        return groups[0]
    names = (*EVENT_FIELDS, "in_session")
    return Events(**{n: torch.cat([getattr(group, n) for group in groups]) for n in names})
