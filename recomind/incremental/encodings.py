"""Sessions that run on: at each step the newest event is encoded, not the whole history.

Symbols: `B` sessions, `L` history length, `D` a width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recomind.incremental.events import EventCache, Rings
from recomind.incremental.users import RunningUsers
from recomind.ranker.history import Events, StateParts, event_numbers, state_parts
from recomind.ranker.model import SessionRanker
from recomind.types import Ranker, SessionState


@dataclass(kw_only=True, slots=True)
class Beside:
    """Something else that is computed of each event alone, and kept beside the rankers' vectors."""

    encode: Callable[[Events], Tensor]  # [B, L, D], of any events
    sources: tuple[object, ...]  # what else it depends on


class RunningEncodings:
    """Encodings by several rankers of sessions that run on.

    Rankers without a transformer are asked for the newest event alone; what they give is what
    `encode_state` gives, but for the rounding of products of another size. The others, and ours in
    training or with gradients, encode each state as a whole: an event in a transformer's context
    depends on where the window of recent events begins, which each step moves.

    Args:
        rankers: of any kind.
        beside: what else to keep of each event.
    """

    def __init__(self, rankers: Sequence[Ranker], beside: Beside | None = None) -> None:
        self.rankers, self._beside = list(rankers), beside
        self._events = EventCache(self._encode, self._sources)
        self._users: list[RunningUsers] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"rankers": self.rankers, "beside": self._beside}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["rankers"], state["beside"])

    def forget(self) -> None:
        """Encode the next state as a whole: what follows then depends on that state alone."""
        self._events.forget()
        self._users = []

    def encode_state(self, state: SessionState) -> list[Any]:
        """One encoding a ranker, each as its `encode_state` would give; good until the next."""
        kept = self._kept()
        if not any(kept):
            return [ranker.encode_state(state) for ranker in self.rankers]
        parts, encodings = _AtFirst(state), []
        for ranker, own, events in zip(self.rankers, kept, self._events.at(state), strict=False):
            if own is None:
                encodings.append(ranker.encode_state(state))
                continue
            users = self._users_of(own)
            encodings.append(own.encoding_of(state, events.rings, parts[events.first], users))
        return encodings

    def beside(self, state: SessionState) -> tuple[Tensor, int]:
        """What is kept beside, of the events of `state`: a ring, and where the oldest stands."""
        last = self._events.at(state)[-1]
        return last.rings[0], last.first

    def appended(self, before: SessionState, after: SessionState) -> None:
        """See `EventCache.appended`."""
        self._events.appended(before, after)

    def replaced(self, before: SessionState, after: SessionState, rows: Tensor) -> None:
        """See `EventCache.replaced`."""
        self._events.replaced(before, after, rows)

    def know_items(self, item_id: Tensor) -> None:
        """Have the halves of `item_id` [...] kept where there is no table of all items."""
        for ranker in self._kept():
            if ranker is None or ranker.memo is None:
                continue
            if item_id.numel() <= ranker.config.max_table_items:
                ranker.memo.know(item_id)

    def _users_of(self, ranker: SessionRanker) -> RunningUsers:
        """Its layers over the user."""
        found = next((users for users in self._users if users.ranker is ranker), None)
        if found is None:
            found = RunningUsers(ranker)
            self._users.append(found)
        return found

    def _kept(self) -> list[SessionRanker | None]:
        """The rankers whose events can be kept, None in the place of each other one."""
        return [None if torch.is_grad_enabled() else _alone(ranker) for ranker in self.rankers]

    def _encode(self, events: Events, which: Sequence[int]) -> list[Rings]:
        """Of rankers by their place; what is beside comes last."""
        kept, found, numbers = self._kept(), [], None
        for place in which:
            ranker = kept[place] if place < len(kept) else None
            if ranker is not None:
                numbers = event_numbers(events) if numbers is None else numbers
                found.append(ranker.encode_events(events, None, numbers))
            elif place < len(kept) or self._beside is None:
                found.append(())
            else:
                found.append((self._beside.encode(events),))
        return found

    def _sources(self) -> list[Iterable[object]]:
        found: list[Iterable[object]] = []
        for ranker in self._kept():
            found.append(() if ranker is None else _sources_of(ranker))
        return found if self._beside is None else [*found, self._beside.sources]


class _AtFirst(dict[int, StateParts]):
    """The parts of one state by where rings begin, made where they are asked for."""

    def __init__(self, state: SessionState) -> None:
        super().__init__()
        self._state = state

    def __missing__(self, first: int) -> StateParts:
        self[first] = state_parts(self._state, first, next(iter(self.values()), None))
        return self[first]


def _alone(ranker: Ranker) -> SessionRanker | None:
    """The ranker, where the vectors of an event are a function of it alone, always the same."""
    if type(ranker) is SessionRanker and not ranker.training and ranker.events_stand_alone:
        return ranker
    return None


def _sources_of(ranker: SessionRanker) -> Iterable[object]:
    yield from (ranker.events, ranker.value, ranker.gate, ranker.table, ranker.catalogue)
    if ranker.table is None and ranker.memo is not None:
        yield from ranker.memo.weights
    elif ranker.table is None:
        yield ranker.items
