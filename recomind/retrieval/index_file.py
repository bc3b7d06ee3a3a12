"""The layout of faiss's index files, walked through before faiss reads one.

faiss believes the lengths in its files: one that lies ends the process, and so does a link of a
graph that leads nowhere. Here every length is compared with the file, and every link with the
graph, by reading headers, sizes and links alone. Only what `factory_string` makes is known:
`Flat`, `IVF<n>,Flat` and `IVF<n>_HNSW32,SQ8`.

    index      fourcc, d int32, ntotal int64, 2 x int64, trained int8, metric int32
    IxFI       + count uint64, floats                                      flat, inner product
    IwFl, IwSq + nlist, nprobe uint64, quantizer (an index), direct map, [quantiser], lists
    IHNf       + graph, storage (an index)
    lists      "ilar", nlist, code size, "full" or "sprs", sizes, then codes and ids of each list

Symbols: `n` vectors of an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recomind.artifacts import reading

_INNER_PRODUCT = 0
_SQ8 = 0  # faiss's ScalarQuantizer.QuantizerType
_MOST = 2**48  # bytes or numbers: no product of two of them overflows int64 unseen


def check_index_file(path: Path) -> None:
    """Look over an index file.

    Raises:
        ArtifactError: it is none of ours, cut short, or its lengths and links do not hold.
    """
    with reading("index", path, "build the index again"):
        file = _File(np.memmap(path, dtype=np.uint8, mode="r"))
        _walk(file)
        if file.at != len(file.content):
            raise ValueError(f"{len(file.content) - file.at} bytes behind its end")


@dataclass(slots=True)
class _File:
    """A cursor over the bytes of a file."""

    content: np.ndarray  # uint8
    at: int = 0

    def skip(self, num_bytes: int) -> None:
        if not 0 <= num_bytes <= len(self.content) - self.at:
            raise ValueError(f"{num_bytes} bytes at {self.at} of {len(self.content)}; cut short")
        self.at += num_bytes

    def take(self, dtype: str, count: int = 1) -> np.ndarray:
        """[count] numbers, which the file has to hold."""
        begin = self.at
        self.skip(_within(count) * np.dtype(dtype).itemsize)
        return np.frombuffer(self.content[begin : self.at].tobytes(), dtype=dtype)

    def number(self, dtype: str = "<u8") -> int:
        return int(self.take(dtype)[0])

    def vector(self, dtype: str) -> np.ndarray:
        """A count, and so many numbers."""
        return self.take(dtype, self.number())

    def skip_vector(self, item_bytes: int) -> int:
        """The count of a vector that is passed over."""
        count = _within(self.number())
        self.skip(count * item_bytes)
        return count

    def word(self) -> bytes:
        return self.take("u1", 4).tobytes()


def _within(count: int) -> int:
    if not 0 <= count <= _MOST:
        raise ValueError(f"a length of {count}")
    return count


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _walk(file: _File, *, quantizer: bool = False) -> tuple[int, int]:
    """Pass over an index; returns its number of vectors and their length."""
    kind = file.word()
    dim, num = file.number("<i4"), _within(file.number("<i8"))
    file.skip(16)
    trained, metric = file.number("u1"), file.number("<i4")
    _require(0 < dim < 2**16 and trained == 1 and metric == _INNER_PRODUCT, "an unknown header")
    match kind:
        case b"IxFI":
            _require(file.skip_vector(4) == num * dim, "other than n x d numbers")
        case b"IHNf" if quantizer:
            _walk_graph(file, num)
            _require(_walk(file, quantizer=True) == (num, dim), "a graph over other vectors")
        case b"IwFl" | b"IwSq" if not quantizer:
            _walk_lists_of(file, kind, num, dim)
        case _:
            raise ValueError(f"an index of another kind: {kind!r}")
    return num, dim


def _walk_lists_of(file: _File, kind: bytes, num: int, dim: int) -> None:
    num_lists, nprobe = _within(file.number()), _within(file.number())
    _require(num_lists > 0 and nprobe > 0, "no lists")
    _require(_walk(file, quantizer=True) == (num_lists, dim), "other than one centroid a list")
    _require(file.number("u1") == 0 and file.number() == 0, "a direct map")
    code_bytes = 4 * dim
    if kind == b"IwSq":
        _walk_scalar_quantizer(file, dim)
        code_bytes = dim
    _walk_lists(file, num_lists, code_bytes, num)


def _walk_scalar_quantizer(file: _File, dim: int) -> None:
    _require(file.number("<i4") == _SQ8, "another quantiser than SQ8")
    file.skip(8)  # how the ranges were chosen, and an argument of that
    fits = (file.number(), file.number(), file.skip_vector(4)) == (dim, dim, 2 * dim)
    _require(fits and file.number() == dim, "a quantiser of other vectors")
    _require(file.number("u1") in (0, 1), "codes neither of vectors nor of residuals")


def _walk_lists(file: _File, num_lists: int, code_bytes: int, num: int) -> None:
    _require(file.word() == b"ilar", "no inverted lists")
    _require((file.number(), file.number()) == (num_lists, code_bytes), "lists of another index")
    match file.word():
        case b"full":
            sizes = file.vector("<u8")
            _require(len(sizes) == num_lists, "other than one size a list")
        case b"sprs":
            pairs = file.vector("<u8")
            _require(len(pairs) % 2 == 0, "sizes without their lists")
            lists, sizes = pairs[::2], pairs[1::2]
            ascending = bool((lists[1:] > lists[:-1]).all())
            _require(ascending and int(lists.max(initial=0)) < num_lists, "lists that are not")
        case word:
            raise ValueError(f"lists of another kind: {word!r}")
    _require(int(sizes.max(initial=0)) <= num and int(sizes.sum()) == num, "lists of other sizes")
    file.skip(num * (code_bytes + 8))


def _walk_graph(file: _File, num: int) -> None:
    """The graph of HNSW: what `num` nodes are linked with on each of their levels."""
    num_levels = file.skip_vector(8)  # probability of each level, which only adding reads
    before = file.vector("<i4").astype(np.int64)  # links of a node below level l
    levels = file.vector("<i4").astype(np.int64)  # level of a node, from 1
    offsets, links = file.vector("<u8"), file.vector("<i4").astype(np.int64)
    entry, top, ef_construction, ef_search, _ = (file.number("<i4") for _ in range(5))
    _require(0 < num_levels < 64 and len(before) == num_levels + 1, "a graph without levels")
    _require(before[0] == 0 and bool((np.diff(before) > 0).all()), "levels that do not ascend")
    _require(len(levels) == num and len(offsets) == num + 1, "a graph of other nodes")
    _require(bool(((levels > 0) & (levels <= num_levels)).all()), "nodes on no level")
    ends = np.concatenate([[0], before[levels].cumsum()])
    _require(bool((offsets == ends.astype(np.uint64)).all()), "links at other places")
    _require(len(links) == ends[-1], "other than so many links")
    _require(0 <= entry < num and top == levels[entry] - 1, "an entry outside the graph")
    _require(0 < ef_search < 2**20 and 0 < ef_construction < 2**20, "a search of no width")
    _check_links(links, ends, levels, before)


def _check_links(
    links: np.ndarray, ends: np.ndarray, levels: np.ndarray, before: np.ndarray
) -> None:
    """A link on a level leads to a node that is on this level too."""
    there = links >= 0
    _require(bool(((links >= -1) & (links < len(levels))).all()), "links that lead out of it")
    place = np.arange(len(links)) - np.repeat(ends[:-1], np.diff(ends))  # among its node's links
    level = np.searchsorted(before, place, side="right") - 1
    _require(bool((level[there] < levels[links[there]]).all()), "links to nodes of lower levels")
