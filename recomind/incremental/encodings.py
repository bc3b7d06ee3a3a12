"""Encodings of sessions that go on: at each step the newest event is encoded, not the history.

Symbols: `B` sessions, `L` history length, `D` a width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recomind.incremental.events import EventCache, Handle, Part, Rings
from recomind.incremental.users import RunningUsers
from recomind.ranker import SessionRanker
from recomind.ranker.capabilities import incremental_part
from recomind.ranker.history import Events, StateParts, event_numbers, state_parts
from recomind.types import Ranker, SessionState


@dataclass(kw_only=True, slots=True)
class Beside:
    """Another tensor that is computed from each event alone, and cached beside the rankers'."""

    encode: Callable[[Events], Tensor]  # [B, L, D], of any events
    sources: tuple[object, ...]  # what else it depends on


class RunningEncodings:
    """Encodings by several rankers of sessions that go on.

    Rankers that offer it (`incremental_part`) are asked for the newest event alone; the result is
    that of `encode_state`, except for the rounding of products of another size. The others encode
    each state as a whole, and so does every ranker while gradients are on.

    Args:
        rankers: of any kind.
        beside: what else to cache for each event.
    """

    def __init__(self, rankers: Sequence[Ranker], beside: Beside | None = None) -> None:
        self.rankers, self._beside = list(rankers), beside
        self._events = EventCache(self._encode, self._sources)
        self._users: list[RunningUsers] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"rankers": self.rankers, "beside": self._beside}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["rankers"], state["beside"])

    def clear_cache(self) -> None:
        """Encode the next state as a whole: what follows then depends on that state alone."""
        self._events.clear_cache()
        self._users = []

    def encode_state(self, state: SessionState) -> list[Any]:
        """One encoding a ranker, each as its `encode_state` would give; good until the next.

        What became of the sessions since the last state is found by comparing histories.
        """
        if not any(self._incremental()):
            return [ranker.encode_state(state) for ranker in self.rankers]
        self._events.find(state)
        return self._encodings(state, self._events.parts)

    def find(self, state: SessionState) -> Handle:
        """See `EventCache.find`."""
        return self._events.find(state)

    def append(self, handle: Handle, after: SessionState) -> Handle:
        """See `EventCache.append`."""
        return self._events.append(handle, after)

    def replace(self, handle: Handle, after: SessionState, rows: Tensor) -> Handle:
        """See `EventCache.replace`."""
        return self._events.replace(handle, after, rows)

    def keep(self, handle: Handle, kept: SessionState, rows: Tensor) -> Handle:
        """See `EventCache.keep`."""
        return self._events.keep(handle, kept, rows)

    def encode(self, handle: Handle) -> list[Any]:
        """One encoding a ranker of the handle's state; good until the cache moves on."""
        return self._encodings(handle.state, self._events.read(handle))

    def _encodings(self, state: SessionState, cached: list[Part]) -> list[Any]:
        parts, encodings = _StatePartsByFirst(state), []
        for ranker, own, events in zip(self.rankers, self._incremental(), cached, strict=False):
            if own is None:
                encodings.append(ranker.encode_state(state))
                continue
            users = self._users_of(own)
            encodings.append(own.encoding_of(state, events.rings, parts[events.first], users))
        return encodings

    def beside(self, handle: Handle) -> tuple[Tensor, int]:
        """What is cached beside, for the handle's state: a ring, and where the oldest stands."""
        last = self._events.read(handle)[-1]
        return last.rings[0], last.first

    def know_items(self, item_id: Tensor) -> None:
        """Have the item tower of `item_id` [...] cached where there is no table of all items."""
        for ranker in self._incremental():
            if ranker is None or ranker.item_cache is None:
                continue
            if item_id.numel() <= ranker.config.max_table_items:
                ranker.item_cache.know(item_id)

    def _users_of(self, ranker: SessionRanker) -> RunningUsers:
        """Its layers over the user."""
        found = next((users for users in self._users if users.ranker is ranker), None)
        if found is None:
            found = RunningUsers(ranker)
            self._users.append(found)
        return found

    def _incremental(self) -> list[SessionRanker | None]:
        """The part of each ranker whose events can be cached now; None where there is none."""
        if torch.is_grad_enabled():
            return [None] * len(self.rankers)
        return [incremental_part(ranker) for ranker in self.rankers]

    def _encode(self, events: Events, which: Sequence[int]) -> list[Rings]:
        """The rings of some rankers, by their places; what is beside comes last."""
        incremental, found, numbers = self._incremental(), [], None
        for place in which:
            ranker = incremental[place] if place < len(incremental) else None
            if ranker is not None:
                numbers = event_numbers(events) if numbers is None else numbers
                found.append(ranker.encode_events(events, None, numbers))
            elif place < len(incremental) or self._beside is None:
                found.append(())
            else:
                found.append((self._beside.encode(events),))
        return found

    def _sources(self) -> list[Iterable[object]]:
        found: list[Iterable[object]] = [
            () if ranker is None else ranker.event_sources() for ranker in self._incremental()
        ]
        return found if self._beside is None else [*found, self._beside.sources]


class _StatePartsByFirst(dict[int, StateParts]):
    """The parts of one state by where its rings begin, made when they are asked for."""

    def __init__(self, state: SessionState) -> None:
        super().__init__()
        self._state = state

    def __missing__(self, first: int) -> StateParts:
        self[first] = state_parts(self._state, first, next(iter(self.values()), None))
        return self[first]
