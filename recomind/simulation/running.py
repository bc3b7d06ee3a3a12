"""What the learned simulator keeps of its sessions from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from recomind.incremental import Beside, RunningEncodings
from recomind.ranker.history import Events
from recomind.simulation.summary import event_parts, summary_of
from recomind.types import Catalogue, Ranker, SessionState


class RunningSessions:
    """Encodings and summaries of the states that an environment goes through.

    The same as of `Ranker.encode_state` and `summarise`, but for rounding; of a state that does
    not follow from the last one they are computed as those would.
    """

    def __init__(self, rankers: Sequence[Ranker], catalogue: Catalogue) -> None:
        self.rankers, self.catalogue = list(rankers), catalogue

        def encode(events: Events) -> Tensor:
            return event_parts(events, catalogue)

        # One cache for both: what became of the sessions is then found out once.
        self._encodings = RunningEncodings(rankers, Beside(encode=encode, sources=(catalogue,)))

    def is_of(self, rankers: Sequence[Ranker], catalogue: Catalogue) -> bool:
        """Whether it was made for these very ones."""
        same = len(rankers) == len(self.rankers) and self.catalogue is catalogue
        return same and all(a is b for a, b in zip(rankers, self.rankers, strict=True))

    def forget(self) -> None:
        """Encode the next state as a whole."""
        self._encodings.forget()

    def know_items(self, states: SessionState) -> None:
        """Keep the item halves of the events of `states` [S], that sessions begin from."""
        self._encodings.know_items(states.history_item_id)

    def encode_state(self, state: SessionState) -> list[Any]:
        """One encoding [B] a ranker."""
        return self._encodings.encode_state(state)

    def appended(self, before: SessionState, after: SessionState) -> None:
        """`after` is `before` with one event more in every session."""
        self._encodings.appended(before, after)

    def replaced(self, before: SessionState, after: SessionState, rows: Tensor) -> None:
        """`after` is `before`, but for the sessions `rows` [r], in whose places others began."""
        self._encodings.replaced(before, after, rows)

    def summarise(self, state: SessionState) -> Tensor:
        """The summary [B, M]."""
        parts_BLF, first = self._encodings.beside(state)
        return summary_of(state, parts_BLF, first)
