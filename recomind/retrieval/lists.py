"""Inverted lists in faiss's own file format, merged list by list in little memory.

Symbols: `n` entries of a list, `C` bytes of an entry's code.

faiss can merge indexes only in memory, or into a file that refers to another file. This writes the
file that `faiss.write_index` would have written for one index with all entries in order:

    header    the trained index without its lists, its count of items set
    "ilar"    number of lists, C, "full", the lists' sizes (or "sprs" and (list, size) pairs)
    lists     one after another: codes [n, C] uint8, then ids [n] int64
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from recomind.errors import ArtifactError

_EMPTY_TAIL = 32  # bytes that faiss writes for lists that are all empty


class ListPart:
    """The entries of one index, list by list.

    Args:
        index: an index with inverted lists.
        hidden: bitmap (`id_bitmap`) of ids to skip; None for none.
    """

    def __init__(self, index: faiss.IndexIVF, hidden: np.ndarray | None = None) -> None:
        self._lists: Any = index.invlists
        self._index, self._hidden = index, hidden  # the index owns the lists

    def size(self, number: int) -> int:
        """Entries of list `number` that are not hidden."""
        if self._hidden is None:
            return int(self._lists.list_size(number))
        return int((~in_bitmap(self.ids(number), self._hidden)).sum())

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes [n, C] uint8 and ids [n] int64 of list `number`, in the order they were added."""
        ids, codes = self.ids(number), self._codes(number)
        if self._hidden is None:
            return codes, ids
        keep = ~in_bitmap(ids, self._hidden)
        return codes[keep], ids[keep]

    def ids(self, number: int) -> np.ndarray:
        """Ids [n] int64 of list `number`, including hidden ones: a view into the index."""
        size = int(self._lists.list_size(number))
        if not size:
            return np.zeros(0, dtype=np.int64)
        return faiss.rev_swig_ptr(self._lists.get_ids(number), size)

    def _codes(self, number: int) -> np.ndarray:
        size, width = int(self._lists.list_size(number)), int(self._lists.code_size)
        if not size:
            return np.zeros((0, width), dtype=np.uint8)
        return faiss.rev_swig_ptr(self._lists.get_codes(number), size * width).reshape(size, width)


def id_bitmap(ids: np.ndarray, num_ids: int) -> np.ndarray:
    """One bit for each id, lowest first: [ceil(num_ids / 8)] uint8, set for `ids` int64."""
    bits = np.zeros(num_ids, dtype=bool)
    bits[ids] = True
    return np.packbits(bits, bitorder="little")


def in_bitmap(ids: np.ndarray, bitmap: np.ndarray) -> np.ndarray:
    """[n] bool: whether each of `ids` [n] int64 is set."""
    return (bitmap[ids >> 3] >> (ids & 7).astype(np.uint8) & 1).astype(bool)


def empty_lists(index: faiss.IndexIVF) -> faiss.IndexIVF:
    """`index` itself, still trained, without its entries."""
    lists: Any = faiss.ArrayInvertedLists(index.nlist, index.code_size)
    index.replace_invlists(lists, True)
    lists.this.disown()
    index.ntotal = 0
    return index


def write_merged(trained: faiss.IndexIVF, parts: Sequence[ListPart], path: Path) -> int:
    """Write an index with all entries of `parts`, in each list in the order of the parts.

    Args:
        trained: the index that encoded the parts, without entries.
        parts: at least one.
        path: the file, which is flushed to disk.

    Returns:
        The number of entries.
    """
    sizes = [sum(part.size(number) for part in parts) for number in range(trained.nlist)]
    with Path(path).open("wb") as file:
        file.write(_header(trained, sum(sizes)))
        file.write(b"ilar" + struct.pack("<QQ", trained.nlist, trained.code_size))
        file.write(_sizes(sizes))
        for number in range(trained.nlist):
            found = [part.read(number) for part in parts]
            for column in zip(*found, strict=True):  # all codes of the list, then all its ids
                for piece in column:
                    file.write(np.ascontiguousarray(piece).data)
        file.flush()
        os.fsync(file.fileno())
    return sum(sizes)


def _header(trained: faiss.IndexIVF, num_items: int) -> bytes:
    """The file of the trained index up to its lists."""
    trained.ntotal = num_items
    try:
        content = faiss.serialize_index(trained).tobytes()
    finally:
        trained.ntotal = 0
    if content[-_EMPTY_TAIL : -_EMPTY_TAIL + 4] != b"ilar":
        raise ArtifactError(
            "faiss writes inverted lists in an unknown format",
            got=f"faiss {faiss.__version__}",
            mend="install the version of faiss in pyproject.toml",
        )
    return content[:-_EMPTY_TAIL]


def _sizes(sizes: list[int]) -> bytes:
    filled = [(number, size) for number, size in enumerate(sizes) if size]
    if len(filled) > len(sizes) // 2:
        return b"full" + struct.pack(f"<Q{len(sizes)}Q", len(sizes), *sizes)
    pairs = [value for pair in filled for value in pair]
    return b"sprs" + struct.pack(f"<Q{len(pairs)}Q", len(pairs), *pairs)
