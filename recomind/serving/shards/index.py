"""The nearest items in an index whose shards are held by Ray actors.

Symbols: `B` queries, `D` length of a vector, `N` items, `F` shards (the fan-out).

    query [B, D] --+--> shard 0: its best num --+
                   +--> shard 1: its best num --+--> the best num of all
                   +--> shard 2: (late)         .     answered by 2 of 3 after `timeout_s`

A search waits for its slowest shard. Two remedies, both of Dean and Barroso, "The tail at scale"
(CACM 56(2), 2013): a late shard's replica is asked as well and the first answer is taken (hedged
requests), and after a deadline what has come back is served, with the number of missing shards
("good enough" results). A process that died is started again by Ray; until then its shard counts
as missing.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from torch import Tensor

from recomind.errors import ArtifactError, ConfigError, RecomindError
from recomind.retrieval.index import check_vectors
from recomind.serving.shards.actor import Found, IndexShard, ShardStatus, merge
from recomind.serving.shards.asking import collect, result_of
from recomind.serving.shards.build import read_shards, shard_folders
from recomind.serving.shards.config import ShardsConfig


@dataclass(kw_only=True, slots=True)
class ShardedAnswer:
    """What the shards that answered in time found."""

    item_id: Tensor  # [B, num] int64, best first; -1 where fewer were found
    score: Tensor  # [B, num] float32, inner products; -inf where the id is -1
    num_missing: int  # shards that are not in it


@dataclass(kw_only=True, slots=True)
class SearchCounts:
    """Searches so far."""

    searches: int = 0
    partial: int = 0  # answers that missed a shard
    missing: int = 0  # shards missed, over all of them
    asked_again: int = 0  # questions to a second replica


class ShardedIndex:
    """Search over all shards of a folder, in the place of an `ItemIndex`.

    Its processes live as long as it does, or until `close`.

    Args:
        folder: as `build_shards` made it; every machine finds the shards under the same path.
        config: deadline, replicas, CPUs.

    Raises:
        ArtifactError: shards are absent, damaged, or do not make one whole.
        ConfigError: Ray is not running, or has fewer CPUs than the processes need.
        RecomindError: a process does not come up.
    """

    def __init__(self, folder: Path, config: ShardsConfig | None = None) -> None:
        self.folder, self.config = Path(folder).resolve(), config or ShardsConfig()
        self._shards = read_shards(self.folder)
        whole = self._shards[0]
        self.num_items, self.dim, self.version = whole.num_items, whole.dim, whole.version
        self.num_shards, self.nprobe = len(self._shards), self.config.nprobe
        self._counts, self._lock = SearchCounts(), threading.Lock()
        _check_ray(self.num_shards * self.config.num_replicas * self.config.num_cpus)
        self._actors = [self._start() for _ in range(self.config.num_replicas)]  # [replica][shard]
        self._wait_until_open()

    @property
    def counts(self) -> SearchCounts:
        """A copy of the counters."""
        with self._lock:
            return dataclasses.replace(self._counts)

    def search(self, query_BD: Tensor, num: int) -> Tensor:
        """Ids [B, num] int64 of the nearest items, best first; -1 where fewer were found.

        Raises:
            SchemaError: queries of another length, or NaN, infinite or zero.
            RecomindError: no shard answered in time, or not every one and that is not allowed.
        """
        return self.search_shards(query_BD, num).item_id

    def search_scored(self, query_BD: Tensor, num: int) -> tuple[Tensor, Tensor]:
        """Inner products [B, num] float32, and what `search` gives; it raises the same."""
        answer = self.search_shards(query_BD, num)
        return answer.score, answer.item_id

    def search_shards(self, query_BD: Tensor, num: int) -> ShardedAnswer:
        """What was found, and how many shards are missing from it; raises as `search`."""
        query = check_vectors(query_BD, self.dim, "query")
        found, num_again = self._ask_all(query, num)
        num_missing = self.num_shards - len(found)
        self._count(num_missing, num_again)
        if not found or (num_missing and not self.config.allow_partial):
            raise self._incomplete(found)
        score, ids = merge([found[shard] for shard in sorted(found)], num)
        return ShardedAnswer(
            item_id=ids.to(query_BD.device),
            score=score.to(query_BD.device),
            num_missing=num_missing,
        )

    def status(self) -> list[ShardStatus]:
        """Facts of every process: the shards in order, replica after replica."""
        asked = [(shard, actor.status.remote()) for shard, actor in self._each()]
        ray.wait([ref for _, ref in asked], num_returns=len(asked), timeout=self.config.timeout_s)
        return [
            result_of(ref) or ShardStatus(begin=shard.begin, end=shard.end, alive=False)
            for shard, ref in asked
        ]

    def save(self, path: Path) -> None:
        """Raise an ArtifactError: the shards are artifacts of their own."""
        raise ArtifactError("an index in shards keeps itself", got=self.folder)

    def close(self) -> None:
        """End the processes."""
        for _, actor in self._each():
            ray.kill(actor, no_restart=True)
        self._actors = []

    def _start(self) -> list[Any]:
        """Processes of one replica of every shard."""
        remote: Any = ray.remote(IndexShard)
        options = remote.options(
            num_cpus=self.config.num_cpus,
            max_restarts=self.config.max_restarts,
            max_task_retries=0,  # an answer that comes after the restart comes too late
        )
        return [options.remote(str(path), self.nprobe) for path in shard_folders(self.folder)]

    def _each(self) -> list[tuple[Any, Any]]:
        return [
            pair for replica in self._actors for pair in zip(self._shards, replica, strict=True)
        ]

    def _wait_until_open(self) -> None:
        refs = [actor.status.remote() for _, actor in self._each()]
        ready, late = ray.wait(refs, num_returns=len(refs), timeout=self.config.start_timeout_s)
        try:
            ray.get(ready)
        except RayError as error:
            self.close()
            raise RecomindError("a shard does not open", got=_last_line(error)) from error
        if late:
            free = ray.available_resources().get("CPU", 0.0)
            self.close()
            raise RecomindError(
                f"shards did not open within {self.config.start_timeout_s} s",
                got=f"{len(ready)} of {len(refs)} processes, {free:g} CPUs are free",
                expected=f"{self.config.num_cpus:g} CPUs for each",
                mend="end what holds the CPUs, or raise start_timeout_s",
            )

    def _ask_all(self, query: Any, num: int) -> tuple[dict[int, Found], int]:
        """Answers by shard, and how many questions went to a second replica."""
        begin, turn = time.monotonic(), self._counts.searches % self.config.num_replicas
        deadline = begin + self.config.timeout_s
        asked = self._ask(range(self.num_shards), turn, query, num)
        found: dict[int, Found] = {}
        patience = self.config.hedge_after_s or self.config.timeout_s
        collect(asked, found, begin + patience, at_once=self.num_shards)
        again: dict[Any, int] = {}
        if self.config.num_replicas > 1 and time.monotonic() < deadline:
            missing = [shard for shard in range(self.num_shards) if shard not in found]
            again = self._ask(missing, (turn + 1) % self.config.num_replicas, query, num)
        num_again = len(again)
        asked |= again
        while len(found) < self.num_shards and collect(asked, found, deadline, at_once=1):
            pass
        for ref in asked:  # else a shard that stands still would work them off when it wakes
            ray.cancel(ref)
        return found, num_again

    def _ask(self, shards: Iterable[int], replica: int, query: Any, num: int) -> dict[Any, int]:
        actors = self._actors[replica]
        return {actors[shard].search.remote(query, num): shard for shard in shards}

    def _count(self, num_missing: int, num_again: int) -> None:
        with self._lock:
            self._counts.searches += 1
            self._counts.partial += num_missing > 0
            self._counts.missing += num_missing
            self._counts.asked_again += num_again

    def _incomplete(self, found: dict[int, Found]) -> RecomindError:
        absent = [s for number, s in enumerate(self._shards) if number not in found]
        return RecomindError(
            f"shards did not answer within {self.config.timeout_s} s",
            got=f"{len(found)} of {self.num_shards}; without items "
            + ", ".join(f"{shard.begin} .. {shard.end - 1}" for shard in absent[:4]),
            mend="look at status(); raise timeout_s, or set allow_partial where some answered",
        )


def _check_ray(needed: float) -> None:
    if not ray.is_initialized():
        raise ConfigError(
            "Ray is not running", mend="connect first, as with recomind.local_ray.start_ray"
        )
    total = ray.cluster_resources().get("CPU", 0.0)
    if needed > total:
        raise ConfigError(
            "shards * num_replicas * num_cpus",
            got=needed,
            expected=f"<= {total:g}, the CPUs of this Ray",
            mend="fewer replicas or CPUs for each; Ray would wait for them without a word",
        )


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
