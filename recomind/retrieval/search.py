"""What `Retrieval` needs of an index, in memory, in a file or in shards."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


class SearchIndex(Protocol):
    """Finds items by their vectors: `ItemIndex`, `LiveIndex`, or a sharded index."""

    @property
    def num_items(self) -> int:
        """`N`: ids are 0 .. N - 1."""
        ...

    @property
    def dim(self) -> int:
        """Length `D` of a vector."""
        ...

    @property
    def version(self) -> int:
        """Version of the catalogue behind the vectors."""
        ...

    def search(self, query_BD: Tensor, num: int) -> Tensor:
        """Ids [B, num] int64 of the nearest items, best first; -1 where fewer were found."""
        ...


class ItemCells(Protocol):
    """What stratified draws need of `recomind.retrieval.cells.Cells`."""

    sizes_C: Tensor  # [C] int64, above 0

    def items(self, cell: Tensor, offset: Tensor) -> Tensor:
        """Ids [...] int64 at `offset` [...] of `cell` [...]; -1 where there is none."""
        ...


@runtime_checkable
class HasCells(Protocol):
    """A retrieval or an index that is divided into cells."""

    def cells(self) -> ItemCells:
        """The present cells; a returned value does not change."""
        ...
