"""The items nearest to a query by inner product, by faiss.

Symbols: `B` queries, `D` length of a vector, `N` items.

faiss has its own threads. It runs on one here, since more would compete with those of torch, and
k-means on several threads is not reproducible.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor

from recomind.artifacts import brief
from recomind.errors import ArtifactError, SchemaError
from recomind.retrieval.cells import Cells, list_ids
from recomind.retrieval.config import IndexKind, RetrievalConfig
from recomind.retrieval.index_file import check_index_file

CHUNK_ITEMS = 65_536  # vectors computed and added at a time, which bounds memory
POINTS_PER_LIST = 50  # faiss asks for at least 39 training vectors per centroid
COMPRESS_FROM = 1_000_000  # number of items from which vectors have 8 bits and centroids a graph

ItemVectors = Callable[[Tensor], Tensor]  # item ids [n] -> vectors [n, D]


class ItemIndex:
    """Search over the vectors of items 0 .. N - 1.

    Args:
        index: a faiss index with ids in the order of the items.
        nprobe: inverted lists read for a query, if it has lists.
        path: file that it is mapped from, if any.
        version: version of the catalogue behind the vectors.
    """

    def __init__(
        self, index: faiss.Index, nprobe: int = 16, path: Path | None = None, version: int = 0
    ) -> None:
        self._index: Any = index
        self._path, self.version = path, version
        self.num_items, self.dim = int(index.ntotal), int(index.d)
        self.num_lists = int(index.nlist) if isinstance(index, faiss.IndexIVF) else 0
        self.nprobe = nprobe
        self._cells: Cells | None = None

    @property
    def nprobe(self) -> int:
        """Inverted lists read for a query; may be set."""
        return self._nprobe

    @nprobe.setter
    def nprobe(self, value: int) -> None:
        self._nprobe = value
        if self.num_lists:
            self._index.nprobe = min(value, self.num_lists)

    def search(self, query_BD: Tensor, num: int) -> Tensor:
        """Ids [B, num] int64 of the nearest items, best first; -1 where fewer were found.

        Raises:
            SchemaError: queries of another length, or NaN, infinite or zero.
        """
        return self.search_scored(query_BD, num)[1]

    def search_scored(self, query_BD: Tensor, num: int) -> tuple[Tensor, Tensor]:
        """Inner products [B, num] float32, -inf where fewer were found, and the ids of `search`.

        Raises:
            SchemaError: queries of another length, or NaN, infinite or zero.
        """
        query = check_vectors(query_BD, self.dim, "query")
        faiss.omp_set_num_threads(1)
        score, ids = (torch.from_numpy(found) for found in self._index.search(query, num))
        score = score.masked_fill(ids < 0, -torch.inf)
        return score.to(query_BD.device), ids.to(query_BD.device)

    def cells(self) -> Cells:
        """The inverted lists; for a flat index, one cell with every item."""
        if self._cells is None:
            lists = list_ids(self._index) if self.num_lists else [range(self.num_items)]
            self._cells = Cells(lists, owner=self._index)
        return self._cells

    def as_one_list(self) -> faiss.IndexIVF:
        """The same index as one inverted list: a flat index can neither hide nor drop items."""
        index: Any = faiss.index_factory(self.dim, "IVF1,Flat", faiss.METRIC_INNER_PRODUCT)
        vectors = self._index.reconstruct_n(0, self.num_items)
        index.train(vectors[:POINTS_PER_LIST])
        index.add(vectors)
        return index

    def save(self, path: Path) -> None:
        """Write faiss's binary format; a memory-mapped file is linked or copied.

        Raises:
            ArtifactError: the memory-mapped file is gone.
        """
        if self._path is None:
            return faiss.write_index(self._index, str(path))
        try:
            _link(self._path, Path(path))
        except OSError as error:
            raise ArtifactError("the index's file is gone", got=f"{error}") from error


def build_index(vectors_of: ItemVectors, num_items: int, config: RetrievalConfig) -> ItemIndex:
    """Build an index in chunks.

    Args:
        vectors_of: item ids [n] -> vectors [n, config.dim].
        num_items: `N`, at least 1.
        config: kind of the index and its size.

    Raises:
        SchemaError: vectors of another length, or NaN, infinite or zero ones.
    """
    index = train_index(vectors_of, num_items, config)
    add_items(index, vectors_of, 0, num_items, config)
    return ItemIndex(index, config.nprobe)


def train_index(vectors_of: ItemVectors, num_items: int, config: RetrievalConfig) -> faiss.Index:
    """An index without items; its centroids, if any, are trained on a sample of the items."""
    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(
        config.dim, factory_string(num_items, config), faiss.METRIC_INNER_PRODUCT
    )
    if isinstance(index, faiss.IndexIVF):
        sample = _sample_ids(num_items, POINTS_PER_LIST * index.nlist, config.seed)
        index.train(check_vectors(vectors_of(sample), config.dim, "item vector"))
        index.nprobe = min(config.nprobe, index.nlist)
    return index


def add_items(
    index: faiss.Index,
    vectors_of: ItemVectors,
    begin: int,
    end: int,
    config: RetrievalConfig,
    *,
    with_ids: bool = False,
) -> None:
    """Add items `begin` .. `end - 1` in chunks, with explicit ids if `with_ids`.

    The result does not depend on the number of threads: items enter a list in their order.
    """
    for ids in item_chunks(end, begin):
        vectors = check_vectors(vectors_of(ids), config.dim, "item vector")
        faiss.omp_set_num_threads(config.build_threads)
        if with_ids:
            index.add_with_ids(vectors, ids.numpy())
        else:
            index.add(vectors)
        faiss.omp_set_num_threads(1)


def load_index(path: Path, nprobe: int = 16, version: int = 0) -> ItemIndex:
    """Memory-map what `ItemIndex.save` wrote; processes that open it share its pages.

    Raises:
        ArtifactError: the file is absent or not a faiss index.
    """
    return ItemIndex(map_index(path), nprobe, Path(path), version)


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, path)


def map_index(path: Path) -> faiss.Index:
    """The faiss index of a file, its vectors memory-mapped; see `load_index`."""
    check_index_file(path)
    try:
        with Path(path).open("rb") as file:
            flat = file.read(3) == b"IxF"  # flat vectors and lists need different readers
        flag = faiss.IO_FLAG_MMAP_IFC if flat else faiss.IO_FLAG_MMAP
        index = faiss.read_index(str(path), flag)
    except (OSError, RuntimeError) as error:
        raise ArtifactError("unreadable index", got=f"{path}: {brief(error)}") from error
    if isinstance(index, faiss.IndexIVF):
        # By default every search starts 32 threads that only prefetch pages.
        found: Any = index.invlists
        lists: Any = faiss.downcast_InvertedLists(found)
        lists.prefetch_nthread = 0
    return index


def map_lists(path: Path) -> faiss.IndexIVF:
    """`map_index` for an index with inverted lists; raises an ArtifactError if it has none."""
    index = map_index(path)
    if not isinstance(index, faiss.IndexIVF):
        raise ArtifactError("the index has no inverted lists", got=path)
    return index


def factory_string(num_items: int, config: RetrievalConfig) -> str:
    """The faiss description of an index for `num_items`."""
    flat = num_items < config.flat_below
    if config.kind is IndexKind.flat or (config.kind is IndexKind.auto and flat):
        return "Flat"
    wanted = config.num_lists or round(2 * math.sqrt(num_items))
    lists = max(1, min(wanted, num_items // POINTS_PER_LIST))
    return f"IVF{lists}_HNSW32,SQ8" if num_items >= COMPRESS_FROM else f"IVF{lists},Flat"


def check_vectors(vectors: Tensor, dim: int, what: str) -> np.ndarray:
    """`vectors` [n, D] as contiguous float32, or a SchemaError that names the first bad row."""
    if vectors.dim() != 2 or vectors.shape[1] != dim:
        raise SchemaError(
            f"{what} of another length", got=tuple(vectors.shape), expected=f"[n, {dim}]"
        )
    vectors = vectors.detach().to("cpu", torch.float32)
    norm = vectors.norm(dim=1)
    bad = (~norm.isfinite() | (norm == 0)).nonzero()[:, 0]
    if len(bad):
        raise SchemaError(
            f"{what} is zero or not finite",
            got=f"{len(bad)} of {len(vectors)} rows, the first is row {int(bad[0])}",
            mend="check the features of items and users for NaN",
        )
    return vectors.contiguous().numpy()


def item_chunks(end: int, begin: int = 0) -> Iterator[Tensor]:
    """Consecutive ids `begin` .. `end - 1`, at most `CHUNK_ITEMS` at a time."""
    for first in range(begin, end, CHUNK_ITEMS):
        yield torch.arange(first, min(first + CHUNK_ITEMS, end))


def _sample_ids(num_items: int, num: int, seed: int) -> Tensor:
    if num >= num_items:
        return torch.arange(num_items)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_items, (num,), generator=generator).sort().values
