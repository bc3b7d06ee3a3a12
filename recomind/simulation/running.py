"""What the learned simulator keeps of its sessions from step to step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from recomind.ranker.advance import EventCache, RunningEncodings
from recomind.simulation.summary import event_parts, summary_of
from recomind.types import Catalogue, Ranker, SessionState


class RunningSessions:
    """Encodings and summaries of the states that an environment goes through.

    The same as of `Ranker.encode_state` and `summarise`, but for rounding; of a state that does
    not follow from the last one they are computed as those would.
    """

    def __init__(self, rankers: Sequence[Ranker], catalogue: Catalogue) -> None:
        self.rankers, self.catalogue = list(rankers), catalogue
        self._encodings = RunningEncodings(rankers)
        self._parts = EventCache(self._encode, self._sources)

    def is_of(self, rankers: Sequence[Ranker], catalogue: Catalogue) -> bool:
        """Whether it was made for these very ones."""
        same = len(rankers) == len(self.rankers) and self.catalogue is catalogue
        return same and all(a is b for a, b in zip(rankers, self.rankers, strict=True))

    def forget(self) -> None:
        """Encode the next state as a whole."""
        self._encodings.forget()
        self._parts.forget()

    def know_items(self, states: SessionState) -> None:
        """Keep the item halves of the events of `states` [S], that sessions begin from."""
        self._encodings.know_items(states.history_item_id)

    def encode_state(self, state: SessionState) -> list[Any]:
        """One encoding [B] a ranker."""
        return self._encodings.encode_state(state)

    def summarise(self, state: SessionState) -> Tensor:
        """The summary [B, M]."""
        (parts_BLF,) = self._parts.at(state)
        return summary_of(state, parts_BLF, self._parts.first)

    def _encode(self, state: SessionState) -> tuple[Tensor, ...]:
        return (event_parts(state, self.catalogue),)

    def _sources(self) -> Iterable[object]:
        return (self.catalogue,)
