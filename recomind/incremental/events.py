"""Vectors of events, kept from one state of running sessions to the next.

Symbols: `B` sessions, `L` history length, `D` a width, `r` sessions that are encoded anew.

An event's vectors depend on the event alone, as long as there is no transformer, so that one step
drops the oldest and adds the newest. They stand in a ring, in which the newest takes the place of
the oldest and nothing else moves (L = 4, `first` is where the oldest of the state stands):

    events a b c d    ring [ a, b, c, d ]   first 0
    event e           ring [ e, b, c, d ]   first 1
    event f           ring [ e, f, c, d ]   first 2

Whether a session went on by one event is looked at: every field of its history is compared with
the one before, and what did not go on (a new session, a state that was set, a batch of others) is
encoded anew. Whoever made a state out of the last one may say how (`appended`, `replaced`), which
counts only where the last one is the very one that is kept. Nothing that is kept can therefore be
of another state; nor of other weights, whose versions are compared too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recomind.ranker.history import EVENT_FIELDS, Events, events_of
from recomind.ranker.stamp import Stamp
from recomind.streams import hash_int64
from recomind.types import SessionState

Rings = tuple[Tensor, ...]  # each [B, L, D]
Encode = Callable[[Events, Sequence[int]], list[Rings]]


@dataclass(slots=True)
class Kept:
    """One part of what is kept."""

    rings: Rings
    first: int  # where in the rings the oldest event of the state stands
    stamp: Stamp  # of what the part depends on


class EventCache:
    """Tensors [B, L, D] of the events of sessions, in parts that are kept or encoded anew alone.

    Args:
        encode: the tensors of any events for some of the parts, each a function of its event
            alone and of whether it is in the session.
        sources: of every part, what else it depends on, compared by a `Stamp`.
    """

    def __init__(self, encode: Encode, sources: Callable[[], Sequence[Iterable[object]]]) -> None:
        self._encode, self._sources = encode, sources
        self.forget()

    def forget(self) -> None:
        """Encode the next state as a whole."""
        self.parts: list[Kept] = []
        self._fields: tuple[Tensor, ...] = ()
        self._step_B = torch.zeros(0)
        self._written = Stamp()  # of the fields and steps that are kept

    def __getstate__(self) -> dict[str, Any]:
        """Without what is kept: a copy encodes anew."""
        return {"_encode": self._encode, "_sources": self._sources}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_encode"], state["_sources"])

    def at(self, state: SessionState) -> list[Kept]:
        """The tensors [B, L, D] of the events of `state`, part by part.

        They hold until the next call, which writes into them. Where there is no event they may
        be anything finite, and 0 where `encode` gives 0.
        """
        fields, sources = _fields_of(state), [list(one) for one in self._sources()]
        fresh = self._fresh(sources)
        if fresh and 0 < len(state.step) < len(self._step_B):
            self._narrow(fields)
        if not self._comparable(fields) or not self._followed(state, fields, fresh):
            fresh = []
        stale = [n for n in range(len(sources)) if n not in fresh]
        if stale:
            self._fill(state, stale, sources)
        self._keep(fields, state.step)
        return self.parts

    def _fill(self, state: SessionState, which: list[int], sources: list[list[object]]) -> None:
        """Encode all events for the parts `which`."""
        parts = dict(enumerate(self.parts))
        for n, rings in zip(which, self._encode(events_of(state), which), strict=True):
            # A view may be of what a ranker keeps of items, which is not to be written into.
            own = tuple(ring.clone() if ring._is_view() else ring for ring in rings)
            parts[n] = Kept(own, 0, Stamp(sources[n]))
        self.parts = [parts[n] for n in range(len(sources))]

    def appended(self, before: SessionState, after: SessionState) -> None:
        """`after` is `before` with one event more in every session (`append_event`)."""
        if self._holds(before):
            self._write(after, torch.zeros(0, dtype=torch.int64), 1, range(len(self.parts)))
            self._keep(_fields_of(after), after.step)

    def replaced(self, before: SessionState, after: SessionState, rows: Tensor) -> None:
        """`after` is `before`, but for the sessions `rows` [r], in whose places others are."""
        if self._holds(before):
            self._write(after, rows, 0, range(len(self.parts)))
            self._keep(_fields_of(after), after.step)

    def _holds(self, state: SessionState) -> bool:
        """Whether what is kept is of this very state.

        Under other weights it may be written to all the same: `at` then finds the part stale.
        """
        same = bool(self._fields) and self._is_same(_fields_of(state), state.step)
        return same and self._is_untouched()

    def _fresh(self, sources: list[list[object]]) -> list[int]:
        """The parts whose sources are what they were."""
        if len(self.parts) != len(sources):
            return []
        return [n for n, one in enumerate(sources) if self.parts[n].stamp.is_of(one)]

    def _keep(self, fields: tuple[Tensor, ...], step_B: Tensor) -> None:
        self._fields, self._step_B = fields, step_B
        self._written = Stamp((*fields, step_B))

    def _is_untouched(self) -> bool:
        """Whether nobody wrote into what is kept of the last states."""
        return self._written.is_of((*self._fields, self._step_B))

    def _narrow(self, fields: tuple[Tensor, ...]) -> None:
        """Keep only the places of the sessions that `fields` still hold, found by their items.

        Sessions leave a rollout as they end. A place found wrongly costs time alone: what stands
        there is compared like all else.
        """
        kept_B, now_A = _trace(self._fields[0][:, 1:]), _trace(fields[0][:, :-1])
        ordered, order = kept_B.sort(stable=True)
        place_A = order[torch.searchsorted(ordered, now_A).clamp_(max=len(order) - 1)]
        if 2 * int((kept_B[place_A] == now_A).sum()) <= len(place_A):
            return
        if not self._is_untouched():
            return
        self._keep(tuple(field[place_A] for field in self._fields), self._step_B[place_A])
        for part in self.parts:
            part.rings = tuple(ring.index_select(0, place_A) for ring in part.rings)

    def _comparable(self, fields: tuple[Tensor, ...]) -> bool:
        """Whether what is kept is of states of this shape, and nobody wrote into them."""
        if not self._fields:
            return False
        shapes = all(
            ours.shape == theirs.shape and ours.device == theirs.device
            for ours, theirs in zip(fields, self._fields, strict=True)
        )
        return shapes and self._is_untouched()

    def _is_same(self, fields: tuple[Tensor, ...], step_B: Tensor) -> bool:
        """Whether these are the tensors that the last state held; their contents are not read."""
        return step_B is self._step_B and all(
            ours is theirs for ours, theirs in zip(fields, self._fields, strict=True)
        )

    def _followed(self, state: SessionState, fields: tuple[Tensor, ...], which: list[int]) -> bool:
        """Bring the parts `which` from the last state to this one: by one event, or by none.

        Sessions that did not do as most of them did are encoded anew. False where these are too
        many for that to pay.
        """
        if self._is_same(fields, state.step):
            return True
        steps_B = state.step - self._step_B
        moved = int(2 * int((steps_B == 1).sum()) > len(steps_B))
        rows = self._others(fields, steps_B != moved, moved)
        if 2 * len(rows) > len(steps_B):
            return False
        if moved or len(rows):
            self._write(state, rows, moved, which)
        return True

    def _write(self, state: SessionState, rows: Tensor, moved: int, which: Sequence[int]) -> None:
        """The newest event of every session, where they moved, and all other events of `rows`.

        All of them are encoded at once, as histories of one event.
        """
        length = state.history_mask.shape[1]
        row, column = state.history_mask[rows, : length - moved].nonzero(as_tuple=True)
        session = rows[row]
        groups = [_newest(state)] if moved else []
        groups += [_events(state, session, column)] if len(session) or not moved else []
        num, new_parts = moved * len(state.step), self._encode(_joined(groups), which)
        for n, new in zip(which, new_parts, strict=True):
            part = self.parts[n]
            part.first = (part.first + moved) % length
            place = session * length + (column + part.first) % length
            for ring_BLD, new_n1D in zip(part.rings, new, strict=False):
                if len(rows):
                    ring_BLD.index_fill_(0, rows, 0.0)
                    ring_BLD.view(-1, ring_BLD.shape[2]).index_copy_(0, place, new_n1D[num:, 0])
                if moved:
                    ring_BLD[:, part.first - 1] = new_n1D[:num, 0]

    def _others(self, fields: tuple[Tensor, ...], other_B: Tensor, moved: int) -> Tensor:
        """Sessions [r] whose history is not the last one and `moved` events, `other_B` among them.

        A row of a difference is looked at only where the whole has one: that is much cheaper.
        """
        for now, before in zip(fields, self._fields, strict=True):
            differs_BL = (now[:, : now.shape[1] - moved] != before[:, moved:]).flatten(1)
            differs_BL &= ~other_B[:, None]
            if bool(differs_BL.any()):
                other_B = other_B | differs_BL.any(1)
        return other_B.nonzero()[:, 0]


def _fields_of(state: SessionState) -> tuple[Tensor, ...]:
    return tuple(getattr(state, name) for name in EVENT_FIELDS)


def _trace(item_id_BL: Tensor) -> Tensor:
    """[B] int64: sessions of other items have another, but for coincidence."""
    place_L = torch.arange(item_id_BL.shape[1], device=item_id_BL.device)
    return (item_id_BL * hash_int64(place_L)).sum(1)


def _newest(state: SessionState) -> Events:
    """The last event of every session, as histories of one event."""
    mask_B1 = state.history_mask[:, -1:]
    latest = {name: getattr(state, name)[:, -1:] for name in EVENT_FIELDS}
    return Events(**latest, in_session=mask_B1 & (state.step[:, None] >= 1))


def _events(state: SessionState, session: Tensor, column: Tensor) -> Events:
    """The events [n] at `session` [n] and `column` [n], as histories of one event."""
    length = state.history_mask.shape[1]
    place = session * length + column
    histories = {
        name: getattr(state, name).flatten(0, 1).index_select(0, place)[:, None]
        for name in EVENT_FIELDS
    }
    inside = histories["history_mask"] & (length - column <= state.step[session])[:, None]
    return Events(**histories, in_session=inside)


def _joined(groups: list[Events]) -> Events:
    if len(groups) == 1:
        return groups[0]
    names = (*EVENT_FIELDS, "in_session")
    return Events(**{n: torch.cat([getattr(group, n) for group in groups]) for n in names})
