"""Whether the sources of a computed value are still what they were."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

Versions = list[tuple[object, int]]


class Stamp:
    """The identities of things, and how often each tensor in them was written to.

    Modules are their parameters and buffers; what is neither a module nor a tensor is compared by
    identity. Writing to `.data` of a tensor goes unseen.
    """

    def __init__(self, things: Iterable[object] = ()) -> None:
        self._found = _versions(things, [])

    def is_of(self, things: Iterable[object]) -> bool:
        """Whether it was taken from these very things, as they are now."""
        now = _versions(things, [])
        return len(now) == len(self._found) and all(
            thing is one and version == before
            for (thing, version), (one, before) in zip(now, self._found, strict=True)
        )


def _versions(things: Iterable[object], found: Versions) -> Versions:
    """`found`, and after it the tensors of `things` with their versions.

    A module's own dictionaries: `parameters()` takes six times as long, at every step.
    """
    for thing in things:
        if isinstance(thing, Tensor):
            found.append((thing, thing._version))
        elif isinstance(thing, nn.Module):
            for parts in (thing._parameters, thing._buffers, thing._modules):
                _versions(parts.values(), found)
        else:
            found.append((thing, 0))
    return found
