"""The item tower of items met lately, where a table of all items would be too large.

Symbols: `n` items asked for, `k` items known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from recomind.ranker.stamp import Stamp

_PADDING, _CHUNK = 64, 65_536
_FEW = 2_048  # items for which finding those that repeat costs more than it saves


class ItemCache:
    """The tensors of the last items, place by place, and of items known beforehand.

    A running session asks for the item that it was shown a step ago: its newest event is that
    item, at the same place of the batch. Without a table it would be encoded twice. A new session
    asks for items of the histories that sessions begin with.

    Args:
        compute: the tensors `[n, width]` of items `[n]`, some of them padding.
        weights: what they depend on; where one has been written to, the cache is dropped.
    """

    def __init__(
        self, compute: Callable[[Tensor], tuple[Tensor, ...]], weights: Iterable[Tensor]
    ) -> None:
        self._compute, self.weights = compute, list(weights)
        self._stamp = Stamp()
        self._known_k = torch.zeros(0, dtype=torch.int64)  # ascending
        self._of_known: tuple[Tensor, ...] = ()
        self._last_n = torch.zeros(0, dtype=torch.int64)
        self._of_last: tuple[Tensor, ...] = ()

    def __deepcopy__(self, _: object) -> None:
        """A copied ranker makes its own cache: this one belongs to these weights."""

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()

    def know(self, item_id: Tensor) -> None:
        """Compute `item_id` [...] now and keep them, in place of those known until now."""
        self._known_k = torch.unique(item_id)
        self._stamp = Stamp()

    def take(self, item_id: Tensor, num: int | None = None) -> tuple[Tensor, ...]:
        """The first `num` tensors, all where None, `[..., width]` of `item_id` [...].

        They are not to be written into.
        """
        item_n = item_id.flatten()
        if not self._stamp.is_of(self.weights):
            self._begin()
        new_n = torch.ones_like(item_n, dtype=torch.bool)
        common = min(len(item_n), len(self._last_n))
        torch.ne(item_n[:common], self._last_n[:common], out=new_n[:common])
        new = new_n.nonzero()[:, 0]
        found = self._known(item_n, num) if len(new) else None
        if found is None:
            if len(new):
                self._of_last, self._last_n = self._joined(item_n, new), item_n.clone()
            found = tuple(kept[: len(item_n)] for kept in self._of_last[:num])
        return tuple(kept.view(*item_id.shape, -1) for kept in found)

    def _known(self, item_n: Tensor, num: int | None) -> tuple[Tensor, ...] | None:
        """The tensors of items [n], where they are all known beforehand."""
        if not len(self._known_k):
            return None
        for few_n in (item_n[:1], item_n):  # where the first is not known, no other is looked for
            place = torch.searchsorted(self._known_k, few_n).clamp_(max=len(self._known_k) - 1)
            if not torch.equal(self._known_k[place], few_n):
                return None
        return tuple(t.index_select(0, place) for t in self._of_known[:num])

    def _begin(self) -> None:
        chunks = self._known_k.split(_CHUNK) if len(self._known_k) else ()
        computed = [self._compute(chunk) for chunk in chunks]
        self._of_known = tuple(torch.cat(parts) for parts in zip(*computed, strict=True))
        self._last_n, self._of_last = self._last_n[:0], ()
        self._stamp = Stamp(self.weights)

    def _joined(self, item_n: Tensor, new: Tensor) -> tuple[Tensor, ...]:
        """The tensors of `item_n`: computed at the places `new`, kept at the others."""
        found = self._found(item_n[new])
        if len(new) == len(item_n):
            return found
        longer = (0, 0, 0, max(0, len(item_n) - len(self._last_n)))
        kept = (torch.nn.functional.pad(t[: len(item_n)], longer) for t in self._of_last)
        return tuple(t.index_copy(0, new, f) for t, f in zip(kept, found, strict=True))

    def _found(self, item_m: Tensor) -> tuple[Tensor, ...]:
        """The tensors of items [m]: of those known beforehand where they are all known."""
        if (known := self._known(item_m, None)) is not None:
            return known
        if len(item_m) <= _FEW:
            padded = torch.nn.functional.pad(item_m, (0, -len(item_m) % _PADDING))
            return tuple(t[: len(item_m)] for t in self._compute(padded))
        unique, inverse = torch.unique(item_m, return_inverse=True)
        padded = torch.nn.functional.pad(unique, (0, -len(unique) % _PADDING))
        return tuple(t.index_select(0, inverse) for t in self._compute(padded))
