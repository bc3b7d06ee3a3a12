"""Sessions that run on: at each step the newest event is encoded, not the whole history.

Symbols: `B` sessions, `L` history length, `D` a width.

An event's vectors depend on the event alone, as long as there is no transformer, so that one step
drops the oldest and adds the newest. They stand in a ring, in which the newest takes the place of
the oldest and nothing else moves (L = 4, `first` is where the oldest of the state stands):

    events a b c d    ring [ a, b, c, d ]   first 0
    event e           ring [ e, b, c, d ]   first 1
    event f           ring [ e, f, c, d ]   first 2

Whether a session went on by one event is never told, it is looked at: every field of its history
is compared with the one before, and what did not go on (a new session, a state that was set, a
batch of others) is encoded anew. Nothing that is kept can therefore be of another state; nor of
other weights, whose versions are compared too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from recomind.ranker.history import tallies
from recomind.ranker.model import SessionRanker, UserParts
from recomind.ranker.stamp import Stamp
from recomind.ranker.users import RunningUsers
from recomind.streams import hash_int64
from recomind.types import Ranker, SessionState

_EVENT_FIELDS = (
    "history_item_id", "history_mask", "history_dwell_s", "history_gap_s", "history_feedback",
)  # fmt: skip

Encode = Callable[[SessionState], tuple[Tensor, ...]]


class EventCache:
    """Tensors [B, L, D] of the events of sessions, kept from one state to the next.

    Args:
        encode: the tensors of the events of any states, each a function of its event alone and
            of whether it is in the session.
        sources: what else they depend on, compared by a `Stamp`.
    """

    def __init__(self, encode: Encode, sources: Callable[[], Iterable[object]]) -> None:
        self._encode, self._sources = encode, sources
        self.forget()

    def forget(self) -> None:
        """Encode the next state as a whole."""
        self._stamp = Stamp()
        self._fields: tuple[Tensor, ...] = ()
        self._step_B = torch.zeros(0)
        self._written = Stamp()  # of the fields and steps that are kept
        self._rings: tuple[Tensor, ...] = ()
        self.first = 0  # where in the rings the oldest event of the state stands

    def __getstate__(self) -> dict[str, Any]:
        """Without what is kept: a copy encodes anew."""
        return {"_encode": self._encode, "_sources": self._sources}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_encode"], state["_sources"])

    def at(self, state: SessionState) -> tuple[Tensor, ...]:
        """The tensors [B, L, D] of the events of `state`, as rings that begin at `first`.

        They hold until the next call, which writes into them. Where there is no event they may
        be anything finite, and 0 where `encode` gives 0.
        """
        fields = tuple(getattr(state, name) for name in _EVENT_FIELDS)
        sources = list(self._sources())
        same = self._stamp.is_of(sources)
        if same and 0 < len(state.step) < len(self._step_B):
            self._narrow(fields)
        if not same or not self._comparable(fields):
            self._fill(state)
        elif not self._is_same(fields, state.step):
            self._follow(state, fields)
        if not same:
            self._stamp = Stamp(sources)
        self._keep(fields, state.step)
        return self._rings

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
        self._rings = tuple(ring.index_select(0, place_A) for ring in self._rings)

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

    def _fill(self, state: SessionState) -> None:
        self._rings, self.first = self._encode(state), 0

    def _follow(self, state: SessionState, fields: tuple[Tensor, ...]) -> None:
        """From the last state to this one: by one event, or by none.

        Sessions that did not do as most of them did are encoded anew.
        """
        steps_B = state.step - self._step_B
        moved = int(2 * int((steps_B == 1).sum()) > len(steps_B))
        rows = self._others(fields, steps_B != moved, moved)
        if 2 * len(rows) > len(steps_B):
            self._fill(state)
            return
        if moved or len(rows):
            self._write(state, rows, moved)

    def _write(self, state: SessionState, rows: Tensor, moved: int) -> None:
        """The newest event of every session, where they moved, and all other events of `rows`.

        All of them are encoded at once, as histories of one event.
        """
        size, length = state.history_mask.shape
        at_B = torch.arange(size if moved else 0, device=rows.device)
        row, column = state.history_mask[rows, : length - moved].nonzero(as_tuple=True)
        session = torch.cat([at_B, rows[row]])
        column = torch.cat([torch.full_like(at_B, length - 1), column])
        new_parts = self._encode(_events(state, session, column))
        self.first = (self.first + moved) % length
        place = (column[len(at_B) :] + self.first) % length
        for ring_BLD, new_n1D in zip(self._rings, new_parts, strict=True):
            anew_rLD = ring_BLD.new_zeros(len(rows), *ring_BLD.shape[1:])
            anew_rLD[row, place] = new_n1D[len(at_B) :, 0]
            ring_BLD.index_copy_(0, rows, anew_rLD)
            if moved:
                ring_BLD[:, self.first - 1] = new_n1D[: len(at_B), 0]

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


def _trace(item_id_BL: Tensor) -> Tensor:
    """[B] int64: sessions of other items have another, but for coincidence."""
    place_L = torch.arange(item_id_BL.shape[1], device=item_id_BL.device)
    return (item_id_BL * hash_int64(place_L)).sum(1)


def _events(state: SessionState, session: Tensor, column: Tensor) -> SessionState:
    """The events [n] at `session` [n] and `column` [n] as states [n] with a history of one."""
    histories = {name: getattr(state, name)[session, column, None] for name in _EVENT_FIELDS}
    inside = state.history_mask.shape[1] - column <= state.step[session]
    return SessionState(
        **histories,
        user_id=state.user_id[session],
        user_features=state.user_features[session],
        gap_s=state.gap_s[session],
        step=inside.long(),
        batch_size=[len(session)],
    )


class RunningEncodings:
    """Encodings by several rankers of sessions that run on.

    Rankers without a transformer are asked for the newest event alone; what they give is what
    `encode_state` gives, but for the rounding of products of another size. The others, and ours in
    training or with gradients, encode each state as a whole: an event in a transformer's context
    depends on where the window of recent events begins, which each step moves.
    """

    def __init__(self, rankers: Sequence[Ranker]) -> None:
        self.rankers = list(rankers)
        self._events = EventCache(self._encode, self._sources)
        self._users: list[RunningUsers] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"rankers": self.rankers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["rankers"])

    def forget(self) -> None:
        """Encode the next state as a whole: what follows then depends on that state alone."""
        self._events.forget()
        self._users = []

    def encode_state(self, state: SessionState) -> list[Any]:
        """One encoding a ranker, each as its `encode_state` would give; good until the next."""
        own, encodings = self._own(), []
        rings = iter(self._events.at(state) if own else ())
        told_BT = tallies(state) if own else torch.zeros(0)
        for ranker in self.rankers:
            if any(ranker is one for one in own):
                assert isinstance(ranker, SessionRanker)
                events = (next(rings), next(rings), next(rings))
                of_users = self._users_of(ranker, told_BT)
                encodings.append(ranker.encoding_of(state, *events, self._events.first, of_users))
            else:
                encodings.append(ranker.encode_state(state))
        return encodings

    def know_items(self, item_id: Tensor) -> None:
        """Have the halves of `item_id` [...] kept where there is no table of all items."""
        for ranker in self._own():
            if ranker.memo is not None and item_id.numel() <= ranker.config.max_table_items:
                ranker.memo.know(item_id)

    def _users_of(self, ranker: SessionRanker, told_BT: Tensor) -> UserParts:
        """Its layers over the user, given the tallies, which are the same for all rankers."""
        found = next((users for users in self._users if users.ranker is ranker), None)
        if found is None:
            found = RunningUsers(ranker)
            self._users.append(found)
        users = found
        return lambda state, pooled: users.of_tallies(state, pooled, told_BT)

    def _own(self) -> list[SessionRanker]:
        """Those whose events can be kept."""
        if torch.is_grad_enabled():
            return []
        return [
            ranker
            for ranker in self.rankers
            if type(ranker) is SessionRanker and not ranker.training and ranker.events_stand_alone
        ]

    def _encode(self, state: SessionState) -> tuple[Tensor, ...]:
        parts = (ranker.encode_events(state) for ranker in self._own())
        return tuple(part for three in parts for part in three)

    def _sources(self) -> Iterable[object]:
        for ranker in self._own():
            yield from (ranker.events, ranker.value, ranker.gate, ranker.table, ranker.catalogue)
            if ranker.table is None:
                yield ranker.items
