"""Whether what something was computed from is still what it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor, nn


class Stamp:
    """Which things these are, and how often each tensor of them was written to.

    Modules are their parameters and buffers; what is neither a module nor a tensor is compared by
    identity. Writing to `.data` of a tensor goes unseen.
    """

    def __init__(self, things: Iterable[object] = ()) -> None:
        self._found = list(_versions(things))

    def is_of(self, things: Iterable[object]) -> bool:
        """Whether it is of these very things, as they are now."""
        now = list(_versions(things))
        return len(now) == len(self._found) and all(
            thing is one and version == before
            for (thing, version), (one, before) in zip(now, self._found, strict=True)
        )


def _versions(things: Iterable[object]) -> Iterator[tuple[object, int]]:
    for thing in things:
        if isinstance(thing, nn.Module):
            yield from _versions((*thing.parameters(), *thing.buffers()))
        else:
            yield thing, thing._version if isinstance(thing, Tensor) else 0
