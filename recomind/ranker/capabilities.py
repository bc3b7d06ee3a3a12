"""What a ranker may offer beyond the `Ranker` Protocol: it is asked, its class is not.

A ranker offers a capability by having the attribute; one of yours needs none of them.

| attribute | what it is for | session | completed | external |
|---|---|---|---|---|
| `own_ranker`, `own_encoding` | a policy's residual starts from it | yes | yes | |
| `two_tower_ranker` | items are scored from a table of the item tower | yes | | |
| `incremental_ranker` | sessions that go on are encoded by their newest event | where it can | | |
| `frozen_copy` | a copy whose weights stay when the original goes on learning | yes | yes | |
| `artifact_recipe` | it can be written into an artifact | yes | yes | yes |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from recomind.ranker.encodings import StateEncoding
from recomind.ranker.model import SessionRanker
from recomind.types import Ranker


@runtime_checkable
class HasOwnRanker(Ranker, Protocol):
    """A ranker that is, or contains, a `SessionRanker`."""

    @property
    def own_ranker(self) -> SessionRanker:
        """The ranker of ours."""
        ...

    def own_encoding(self, encoding: Any) -> StateEncoding | None:
        """Its part of what `encode_state` returned; None where it was not asked."""
        ...


@runtime_checkable
class HasRecipe(Protocol):
    """A ranker that an artifact can hold."""

    def artifact_recipe(self, staging: Path) -> dict[str, Any]:
        """What rebuilds it beside its weights; files of its own are copied into `staging`."""
        ...


def own_part(ranker: Ranker) -> SessionRanker | None:
    """The ranker of ours that `ranker` is, or is completed by."""
    return getattr(ranker, "own_ranker", None)


def two_tower_part(ranker: Ranker) -> SessionRanker | None:
    """What scores items from their tower's vectors, in place of `score`."""
    return getattr(ranker, "two_tower_ranker", None)


def incremental_part(ranker: Ranker) -> SessionRanker | None:
    """What encodes running sessions event by event, in place of `encode_state`."""
    return getattr(ranker, "incremental_ranker", None)


def frozen_copy(ranker: Ranker) -> Ranker:
    """A copy of what may go on learning; a ranker that offers none is used as it is."""
    copied = getattr(ranker, "frozen_copy", None)
    return ranker if copied is None else copied()
