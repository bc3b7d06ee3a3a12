"""The nearest items to a query by inner product; the one place that knows faiss.

Symbols: `B` queries, `D` length of a vector, `N` items.

faiss keeps threads of its own: it runs on one here, since more would fight with torch's for the
same cores, and k-means on several threads is not repeatable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import torch
from torch import Tensor

from recomind.errors import ArtifactError, SchemaError
from recomind.retrieval.config import IndexKind, RetrievalConfig

CHUNK_ITEMS = 65_536  # vectors made and added at a time: memory does not grow with N
POINTS_PER_LIST = 50  # faiss wants at least 39 training vectors for a centroid
COMPRESS_FROM = 1_000_000  # items from which vectors are kept in 8 bits and centroids in a graph

ItemVectors = Callable[[Tensor], Tensor]  # item ids [n] -> vectors [n, D]


class ItemIndex:
    """Search over the vectors of items 0 .. N - 1.

    Args:
        index: a faiss index with ids in the order of the items.
        nprobe: inverted lists read for a query, where it has lists.
    """

    def __init__(self, index: faiss.Index, nprobe: int = 16) -> None:
        self._index = index
        self.num_items, self.dim, self.nprobe = int(index.ntotal), int(index.d), nprobe
        if isinstance(index, faiss.IndexIVF):
            index.nprobe = min(nprobe, index.nlist)

    def search(self, query_BD: Tensor, num: int) -> Tensor:
        """Ids [B, num] int64 of the nearest items, best first; -1 where fewer were found.

        Raises:
            SchemaError: queries of another length, or NaN, infinite or zero.
        """
        query = check_vectors(query_BD, self.dim, "query")
        faiss.omp_set_num_threads(1)
        _, ids = self._index.search(query, num)
        return torch.from_numpy(ids).to(query_BD.device)

    def save(self, path: Path) -> None:
        """Write faiss's own binary format."""
        faiss.write_index(self._index, str(path))


def build_index(vectors_of: ItemVectors, num_items: int, config: RetrievalConfig) -> ItemIndex:
    """Build an index in chunks.

    Args:
        vectors_of: item ids [n] -> vectors [n, config.dim].
        num_items: `N`, at least 1.
        config: kind of the index and its size.

    Raises:
        SchemaError: vectors of another length, or NaN, infinite or zero ones.
    """
    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(
        config.dim, factory_string(num_items, config), faiss.METRIC_INNER_PRODUCT
    )
    if isinstance(index, faiss.IndexIVF):
        sample = _sample_ids(num_items, POINTS_PER_LIST * index.nlist, config.seed)
        index.train(check_vectors(vectors_of(sample), config.dim, "item vector"))
    for ids in item_chunks(num_items):
        index.add(check_vectors(vectors_of(ids), config.dim, "item vector"))
    return ItemIndex(index, config.nprobe)


def load_index(path: Path, nprobe: int = 16) -> ItemIndex:
    """Read what `ItemIndex.save` wrote.

    Raises:
        ArtifactError: the file is absent or is no faiss index.
    """
    try:
        return ItemIndex(faiss.read_index(str(path)), nprobe)
    except RuntimeError as error:
        raise ArtifactError("unreadable index", got=f"{path}: {error}") from error


def factory_string(num_items: int, config: RetrievalConfig) -> str:
    """The faiss description of the index for a number of items."""
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
            mend="look for NaN in the features of items and users",
        )
    return vectors.contiguous().numpy()


def item_chunks(num_items: int) -> Iterator[Tensor]:
    """Consecutive ids of all items, at most `CHUNK_ITEMS` at a time."""
    for begin in range(0, num_items, CHUNK_ITEMS):
        yield torch.arange(begin, min(begin + CHUNK_ITEMS, num_items))


def exact_search(query_BD: Tensor, vectors_of: ItemVectors, num_items: int, num: int) -> Tensor:
    """The reference: ids [B, num] of the true nearest, from all items, chunk by chunk."""
    best = query_BD.new_zeros(len(query_BD), 0)
    best_id = torch.zeros(len(query_BD), 0, dtype=torch.int64)
    for ids in item_chunks(num_items):
        scores = torch.cat([best, query_BD @ vectors_of(ids).T], dim=1)
        all_id = torch.cat([best_id, ids.expand(len(query_BD), -1)], dim=1)
        best, slot = scores.topk(min(num, scores.shape[1]), dim=1)
        best_id = all_id.gather(1, slot)
    return best_id


def recall(found_BK: Tensor, true_BK: Tensor) -> float:
    """Share of the true nearest items that were found, over all queries."""
    return float((true_BK[:, :, None] == found_BK[:, None, :]).any(2).float().mean())


def _sample_ids(num_items: int, num: int, seed: int) -> Tensor:
    if num >= num_items:
        return torch.arange(num_items)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_items, (num,), generator=generator).sort().values
