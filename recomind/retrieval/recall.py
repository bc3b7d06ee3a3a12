"""Recall of an index against exact search, and the number of lists that reaches a recall.

Symbols: `B` queries, `K` nearest items, `D` length of a vector, `N` items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.data import among_rows
from recomind.retrieval.config import RetrievalConfig
from recomind.retrieval.index import ItemIndex, ItemVectors, item_chunks


def exact_search(query_BD: Tensor, vectors_of: ItemVectors, num_items: int, num: int) -> Tensor:
    """The reference: ids [B, num] of the truly nearest of all items, chunk by chunk."""
    best = query_BD.new_zeros(len(query_BD), 0)
    best_id = torch.zeros(len(query_BD), 0, dtype=torch.int64)
    for ids in item_chunks(num_items):
        scores = query_BD @ vectors_of(ids).T
        if best.shape[1] == num:  # most chunks add little: sort only what may enter
            enters = (scores > best[:, -1:]).any(0).nonzero()[:, 0]
            scores, ids = scores[:, enters], ids[enters]
        scores = torch.cat([best, scores], dim=1)
        all_id = torch.cat([best_id, ids.expand(len(query_BD), -1)], dim=1)
        best, slot = scores.topk(min(num, scores.shape[1]), dim=1)
        best_id = all_id.gather(1, slot)
    return best_id


def recall(found_BK: Tensor, true_BK: Tensor) -> float:
    """Share of the true nearest items that were found, over all queries."""
    return float(among_rows(true_BK, found_BK).float().mean())


def choose_nprobe(
    index: ItemIndex, query_BD: Tensor, true_BK: Tensor, config: RetrievalConfig
) -> float:
    """Double `index.nprobe` from `config.nprobe` until recall@K reaches `config.min_recall`.

    Stops at `config.max_nprobe` lists: with compressed vectors, no number may suffice.

    Returns:
        The recall against `true_BK` with the chosen number.
    """
    while True:
        found = recall(index.search(query_BD, true_BK.shape[1]), true_BK)
        top = min(index.num_lists, config.max_nprobe)
        if found >= config.min_recall or index.nprobe >= top:
            return found
        index.nprobe = min(2 * index.nprobe, top)
