"""Vectors of events, kept from one state of running sessions to the next.

Symbols: `B` sessions, `L` history length, `D` a width, `r` sessions that are encoded from scratch.

Without a transformer an event's vectors depend on the event alone, so one step drops the oldest
and adds the newest. They stand in a ring, in which the newest takes the place of the oldest and
nothing else moves (L = 4, `first` is where the oldest event of the state stands):

    events a b c d    ring [ a, b, c, d ]   first 0
    event e           ring [ e, b, c, d ]   first 1
    event f           ring [ e, f, c, d ]   first 2

There are two ways to bring the cache to a state. Whoever only sees states calls `find`: every
field of the history is compared with the state before, and sessions that did not go on by one
event (a new session, a state that was set, another batch) are encoded from scratch. Whoever makes
the next state calls `append`, `replace` or `keep` with the `Handle` of the last one, and nothing
needs to be compared. A handle is good until the cache moves on to another state; a stale one is
found again by comparing, so the rings are never those of another state. Neither are they those of
other weights, whose versions are compared at every reading.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recomind.incremental.queries import fields_of, joined, newest, some_events, trace
from recomind.ranker import Events, Stamp, events_of
from recomind.types import SessionState

Rings = tuple[Tensor, ...]  # each [B, L, D]
Encode = Callable[[Events, Sequence[int]], list[Rings]]

_VERSIONS = itertools.count(1)  # shared by all caches: no handle fits another cache


@dataclass(frozen=True, slots=True)
class Handle:
    """Says which state a cache is at; returned by one step and passed back by the next."""

    state: SessionState  # [B]
    version: int  # the cache's, at this state


@dataclass(slots=True)
class Part:
    """One part of the cache."""

    rings: Rings
    first: int  # where in the rings the oldest event of the state stands
    stamp: Stamp  # what the part was computed from


class EventCache:
    """Tensors [B, L, D] of the events of sessions, in parts that are kept or refilled alone.

    Args:
        encode: the tensors of any events for some of the parts, each a function of its event
            alone and of whether it is in the session.
        sources: for every part, what else it depends on, compared by a `Stamp`.
    """

    def __init__(self, encode: Encode, sources: Callable[[], Sequence[Iterable[object]]]) -> None:
        self._encode, self._sources = encode, sources
        self.clear_cache()

    def clear_cache(self) -> None:
        """Encode the next state as a whole."""
        self.parts: list[Part] = []
        self._version = 0
        self._fields: tuple[Tensor, ...] = ()
        self._step_B = torch.zeros(0)
        self._written = Stamp()  # fields and steps of the state, as they were

    def __getstate__(self) -> dict[str, Any]:
        """Without what is cached: a copy encodes from scratch."""
        return {"_encode": self._encode, "_sources": self._sources}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_encode"], state["_sources"])

    def find(self, state: SessionState) -> Handle:
        """Bring the cache to `state`, whatever it was at before, by comparing histories."""
        fields, sources = fields_of(state), self._listed_sources()
        fresh = self._fresh(sources)
        if fresh and 0 < len(state.step) < len(self._step_B):
            self._narrow(fields)
        if not self._comparable(fields) or not self._followed(state, fields, fresh):
            fresh = []
        self._fill(state, fresh, sources)
        return self._at(state, fields)

    def read(self, handle: Handle) -> list[Part]:
        """The tensors of the events of the handle's state, part by part.

        They hold until the cache moves on, which writes into them. Where there is no event they
        may be anything finite, and 0 where `encode` gives 0.
        """
        if not self._holds(handle):
            self.find(handle.state)
            return self.parts
        sources = self._listed_sources()
        self._fill(handle.state, self._fresh(sources), sources)
        return self.parts

    def append(self, handle: Handle, after: SessionState) -> Handle:
        """Go on to `after`, the handle's state with one more event in every session."""
        if not self._holds(handle):
            return self.find(after)
        self._write(after, torch.zeros(0, dtype=torch.int64), 1, range(len(self.parts)))
        return self._at(after, fields_of(after))

    def replace(self, handle: Handle, after: SessionState, rows: Tensor) -> Handle:
        """Go on to `after`, the handle's state with other sessions in the places `rows` [r]."""
        if not self._holds(handle):
            return self.find(after)
        self._write(after, rows, 0, range(len(self.parts)))
        return self._at(after, fields_of(after))

    def keep(self, handle: Handle, kept: SessionState, rows: Tensor) -> Handle:
        """Go on to `kept`, the sessions `rows` [r] of the handle's state."""
        if not self._holds(handle):
            return self.find(kept)
        self._select(rows)
        return self._at(kept, fields_of(kept))

    def _select(self, rows: Tensor) -> None:
        for part in self.parts:
            part.rings = tuple(ring.index_select(0, rows) for ring in part.rings)

    def _at(self, state: SessionState, fields: tuple[Tensor, ...]) -> Handle:
        self._version = next(_VERSIONS)
        self._note(fields, state.step)
        return Handle(state, self._version)

    def _note(self, fields: tuple[Tensor, ...], step_B: Tensor) -> None:
        self._fields, self._step_B = fields, step_B
        self._written = Stamp((*fields, step_B))

    def _holds(self, handle: Handle) -> bool:
        """Whether the cache is still at the handle's state, and nobody wrote into that.

        Under other weights it may be written to all the same: `read` then finds the part stale.
        """
        return handle.version == self._version and self._is_untouched()

    def _is_untouched(self) -> bool:
        return self._written.is_of((*self._fields, self._step_B))

    def _listed_sources(self) -> list[list[object]]:
        return [list(one) for one in self._sources()]

    def _fresh(self, sources: list[list[object]]) -> list[int]:
        """The parts whose sources are what they were."""
        if len(self.parts) != len(sources):
            return []
        return [n for n, one in enumerate(sources) if self.parts[n].stamp.is_of(one)]

    def _fill(self, state: SessionState, fresh: list[int], sources: list[list[object]]) -> None:
        """Encode all events for every part that is not `fresh`."""
        stale = [n for n in range(len(sources)) if n not in fresh]
        if not stale:
            return
        parts = dict(enumerate(self.parts))
        for n, rings in zip(stale, self._encode(events_of(state), stale), strict=True):
            # A view may be of a ranker's own table of items, which is not to be written into.
            own = tuple(ring.clone() if ring._is_view() else ring for ring in rings)
            parts[n] = Part(own, 0, Stamp(sources[n]))
        self.parts = [parts[n] for n in range(len(sources))]

    def _narrow(self, fields: tuple[Tensor, ...]) -> None:
        """Keep only the places of the sessions that `fields` still hold, found by their items.

        Sessions leave a rollout as they end. A place found wrongly costs time alone: its contents
        are compared like all others.
        """
        kept_B, now_A = trace(self._fields[0][:, 1:]), trace(fields[0][:, :-1])
        ordered, order = kept_B.sort(stable=True)
        place_A = order[torch.searchsorted(ordered, now_A).clamp_(max=len(order) - 1)]
        if 2 * int((kept_B[place_A] == now_A).sum()) <= len(place_A):
            return
        if not self._is_untouched():
            return
        self._note(tuple(field[place_A] for field in self._fields), self._step_B[place_A])
        self._select(place_A)

    def _comparable(self, fields: tuple[Tensor, ...]) -> bool:
        """Whether the cache is at states of this shape, and nobody wrote into them."""
        if not self._fields:
            return False
        shapes = all(
            ours.shape == theirs.shape and ours.device == theirs.device
            for ours, theirs in zip(fields, self._fields, strict=True)
        )
        return shapes and self._is_untouched()

    def _followed(self, state: SessionState, fields: tuple[Tensor, ...], which: list[int]) -> bool:
        """Bring the parts `which` from the last state to this one: by one event, or by none.

        Sessions that did not do as most of them did are encoded from scratch. False where these
        are too many for that to pay.
        """
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
        groups = [newest(state)] if moved else []
        groups += [some_events(state, session, column)] if len(session) or not moved else []
        num, new_parts = moved * len(state.step), self._encode(joined(groups), which)
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

        Rows of a difference are looked at only where the whole has one: that is much cheaper.
        """
        for now, before in zip(fields, self._fields, strict=True):
            differs_BL = (now[:, : now.shape[1] - moved] != before[:, moved:]).flatten(1)
            differs_BL &= ~other_B[:, None]
            if bool(differs_BL.any()):
                other_B = other_B | differs_BL.any(1)
        return other_B.nonzero()[:, 0]
