"""One shard in a process of its own: what runs inside a Ray actor, and its answers.

Symbols: `B` queries, `D` length of a vector.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recomind.retrieval.index import load_index
from recomind.serving.shards.build import INDEX, read_shard

Found = tuple[np.ndarray, np.ndarray]  # scores [B, num] float32, item ids [B, num] int64


@dataclass(kw_only=True, slots=True)
class ShardStatus:
    """Which process holds which items."""

    begin: int  # first item id
    end: int  # last item id + 1
    alive: bool  # it answered in time
    host: str = ""  # name of its machine
    pid: int = 0  # id of its process there


class IndexShard:
    """Searches one shard, memory-mapped, and answers in the ids of the whole.

    Args:
        folder: of the shard, as its machine sees it.
        nprobe: inverted lists read for a query.

    Raises:
        ArtifactError: absent, damaged, or of another kind.
    """

    def __init__(self, folder: str, nprobe: int) -> None:
        torch.set_num_threads(1)
        self._shard = read_shard(Path(folder))
        self._index = load_index(Path(folder) / INDEX, nprobe, self._shard.version)

    def search(self, query_BD: np.ndarray, num: int) -> Found:
        """The shard's nearest; id -1 and score -inf where it has fewer than `num`."""
        # A copy: what Ray hands over may not be written to, of which torch warns.
        score, ids = self._index.search_scored(torch.tensor(query_BD), num)
        return score.numpy(), torch.where(ids < 0, ids, ids + self._shard.begin).numpy()

    def status(self) -> ShardStatus:
        """Facts of this process."""
        return ShardStatus(
            begin=self._shard.begin,
            end=self._shard.end,
            alive=True,
            host=os.uname().nodename,
            pid=os.getpid(),
        )


def merge(found: list[Found], num: int) -> tuple[Tensor, Tensor]:
    """The best `num` of all shards' answers, best first: scores and ids [B, num].

    Each shard gave its own best `num`, so none of the best of all is missing. Equal scores are in
    the order of their ids.
    """
    score = torch.cat([torch.tensor(score) for score, _ in found], dim=1)
    ids = torch.cat([torch.tensor(ids) for _, ids in found], dim=1)
    best, slot = score.topk(num, dim=1)
    ids, by_id = ids.gather(1, slot).sort(dim=1)
    best, by_score = best.gather(1, by_id).sort(dim=1, descending=True, stable=True)
    return best, ids.gather(1, by_score)
