"""What the learned simulator's models see of its sessions, brought along from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from recomind.incremental import Beside, Handle, RunningEncodings
from recomind.simulation.summary import SessionSummary
from recomind.types import Catalogue, Ranker, SessionState


class RunningSessions:
    """Encodings and summaries of the states that an environment goes through.

    They are those of `Ranker.encode_state` and of the summary, except for rounding. Each step hands
    over a `Handle`, which the next step passes back (`recomind.incremental`).
    """

    def __init__(self, rankers: Sequence[Ranker], summary: SessionSummary) -> None:
        self.rankers, self.summary = list(rankers), summary
        # One cache for both, so that what became of the sessions is found out once.
        beside = Beside(encode=summary.parts, sources=(summary.catalogue,))
        self._encodings = RunningEncodings(rankers, beside)

    def is_for(self, rankers: Sequence[Ranker], catalogue: Catalogue) -> bool:
        """Whether it was made for these very ones."""
        same = len(rankers) == len(self.rankers) and self.summary.catalogue is catalogue
        return same and all(a is b for a, b in zip(rankers, self.rankers, strict=True))

    def clear_cache(self) -> None:
        """Encode the next state as a whole."""
        self._encodings.clear_cache()

    def know_items(self, states: SessionState) -> None:
        """Cache the item tower for the events of `states` [S], which sessions begin from."""
        self._encodings.know_items(states.history_item_id)

    def find(self, state: SessionState) -> Handle:
        """Come to `state`, whatever came before it."""
        return self._encodings.find(state)

    def append(self, handle: Handle, after: SessionState) -> Handle:
        """Go on to `after`, the handle's state with one more event in every session."""
        return self._encodings.append(handle, after)

    def replace(self, handle: Handle, after: SessionState, rows: Tensor) -> Handle:
        """Go on to `after`, the handle's state where other sessions began at `rows` [r]."""
        return self._encodings.replace(handle, after, rows)

    def keep(self, handle: Handle, kept: SessionState, rows: Tensor) -> Handle:
        """Go on to `kept`, the sessions `rows` [r] of the handle's state."""
        return self._encodings.keep(handle, kept, rows)

    def encode(self, handle: Handle) -> list[Any]:
        """One encoding [B] a ranker."""
        return self._encodings.encode(handle)

    def summarise(self, handle: Handle, shown: Tensor | None = None) -> Tensor:
        """The summary [B, M], for the items `shown` [B] next where these are given."""
        parts_BLP, first = self._encodings.beside(handle)
        return self.summary.from_parts(handle.state, parts_BLP, first, shown=shown)
