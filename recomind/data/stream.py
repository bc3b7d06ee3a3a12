"""Sessions read block by block, so that no log need fit in memory.

A log is cut once into chunks of whole timelines; a block is some chunks that fit together:

    rows of the file   0 . . . . 5 . . . 9 . . . . . 15     timelines begin at 0, 2, 5, 9, 12
    chunks of 5        |         |       |       |          0 to 4, 5 to 8, 9 to 11, 12 to 14
    a block of 10      any chunks of at most 10 rows together, such as 0 to 4 and 9 to 11

What is kept of the log is the table of its chunks, three integers each, and one block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl
import torch

from recomind.artifacts import loads, reading
from recomind.data.catalogue import StoredCatalogue
from recomind.data.catalogue_kinds import load_catalogue
from recomind.data.dataset import SessionDataset
from recomind.data.parquet import scan_checked
from recomind.data.rounds import concatenated, read_facts, require_events
from recomind.data.sessions import EVENTS, SPLITS, check_loaded, split_code
from recomind.errors import ConfigError

_CHUNKS_PER_BLOCK = 8  # a block drawn from several places of the log mixes users, days and rounds
_WINDOW_EVENTS = 250_000  # read at once while the log is cut
Counts = np.ndarray  # [splits, 2] int64: impressions by split, of other and of hold-out users


class SessionSource(Protocol):
    """Sessions that can be gone through in blocks: a `SessionDataset` or a `SessionStream`."""

    catalogue: StoredCatalogue
    tasks: tuple[str, ...]
    user_feature_names: tuple[str, ...]
    num_user_features: int
    history_length: int

    def blocks(self, generator: torch.Generator | None = None) -> Iterator[SessionDataset]:
        """Datasets that together hold every event once; in random order with a generator."""
        ...

    def num_rows(self, *splits: str, holdout: bool | None = None) -> int:
        """How many impressions of the splits there are; the arguments are those of `rows`."""
        ...


class _Chunk(NamedTuple):
    """Whole timelines that stand together in the file of one round."""

    round_index: int
    first_row: int
    num_events: int


class SessionStream:
    """A `SessionSource` over sessions on disk; build it with `open`."""

    def __init__(
        self,
        folders: Sequence[Path],
        chunks: Sequence[_Chunk],
        counts: Counts,
        catalogue: StoredCatalogue,
        *,
        tasks: Sequence[str],
        user_feature_names: Sequence[str],
        history_length: int,
        max_block_events: int,
    ) -> None:
        self.catalogue, self.history_length = catalogue, history_length
        self.tasks, self.user_feature_names = tuple(tasks), tuple(user_feature_names)
        self.num_user_features = len(self.user_feature_names)
        self.max_block_events = max_block_events
        self._paths, self._chunks, self._counts = [_events(f) for f in folders], chunks, counts
        self._whole: SessionDataset | None = None

    @classmethod
    @loads("sessions")
    def open(
        cls, folders: Sequence[Path], history_length: int, max_block_events: int = 250_000
    ) -> SessionStream:
        """Open sessions artifacts, in the order of their rounds; the last brings the catalogue.

        Args:
            folders: the artifacts, as for `SessionDataset.load`.
            history_length: `L` of the states.
            max_block_events: events of a block at most, those before the log included; a longer
                timeline is a block by itself. A block takes about 300 bytes an event while it is
                read, and the one before it may still be in use.

        Raises:
            ArtifactError: an artifact is absent or damaged, or tasks, features or the number of
                items differ between the folders.
            ConfigError: no folder, or a length below 1.
        """
        lengths = {"history_length": history_length, "max_block_events": max_block_events}
        for name, value in lengths.items():
            if value < 1:
                raise ConfigError(f"{name} is out of range", got=value, expected=">= 1")
        facts = read_facts(folders)
        chunks, counts = [], np.zeros((len(SPLITS), 2), dtype=np.int64)
        size = max(1, max_block_events // _CHUNKS_PER_BLOCK)
        for index, folder in enumerate(folders):
            cut = _cut_round(index, _events(folder), size, counts)
            require_events(sum(chunk.num_events for chunk in cut), facts, index, folder)
            chunks += cut
        return cls(
            folders,
            chunks,
            counts,
            load_catalogue(Path(folders[-1])),
            tasks=facts["tasks"],
            user_feature_names=facts["user_feature_names"],
            history_length=history_length,
            max_block_events=max_block_events,
        )

    def num_rows(self, *splits: str, holdout: bool | None = None) -> int:
        """How many impressions of the splits there are; counted once, when the log was opened."""
        codes = [split_code(split) for split in splits] or list(range(len(SPLITS)))
        of_users = [0, 1] if holdout is None else [int(holdout)]
        return int(self._counts[np.ix_(codes, of_users)].sum())

    def blocks(self, generator: torch.Generator | None = None) -> Iterator[SessionDataset]:
        """Datasets that together hold every event once, each of whole timelines.

        In the order of the files without a generator; with one, chunks in random order, those
        of a block in the order of the files. A log that fits one block is read once and kept,
        and draws nothing from the generator.
        """
        if sum(chunk.num_events for chunk in self._chunks) <= self.max_block_events:
            if self._whole is None:
                self._whole = self._read(self._chunks)
            yield self._whole
            return
        order = range(len(self._chunks))
        if generator is not None:
            order = torch.randperm(len(self._chunks), generator=generator).tolist()
        for block in _packed([self._chunks[index] for index in order], self.max_block_events):
            yield self._read(sorted(block))

    def _read(self, block: Sequence[_Chunk]) -> SessionDataset:
        frames: dict[int, pl.DataFrame] = {}
        for index, chunks in groupby(block, key=lambda chunk: chunk.round_index):
            with reading("sessions", self._paths[index]):
                events = pl.scan_parquet(self._paths[index])
                pieces = [events.slice(first, num) for first, num in _joined(chunks)]
                frames[index] = pl.concat(pieces).collect()
            facts = {"tasks": self.tasks, "user_feature_names": self.user_feature_names}
            check_loaded(frames[index], self.catalogue, facts, self._paths[index])
        return SessionDataset(
            concatenated(frames),
            self.catalogue,
            tasks=self.tasks,
            user_feature_names=self.user_feature_names,
            history_length=self.history_length,
        )


def _events(folder: Path) -> Path:
    return Path(folder) / EVENTS


def _packed(chunks: Iterable[_Chunk], max_events: int) -> Iterator[list[_Chunk]]:
    """Chunks, in the order given, by blocks of at most `max_events` or of one longer chunk."""
    block: list[_Chunk] = []
    for chunk in chunks:
        if block and sum(c.num_events for c in block) + chunk.num_events > max_events:
            yield block
            block = []
        block.append(chunk)
    if block:
        yield block


def _joined(chunks: Iterable[_Chunk]) -> list[tuple[int, int]]:
    """(first row, number of rows) of one file's chunks: those that touch are read as one."""
    pieces: list[tuple[int, int]] = []
    for _, first, num in chunks:
        if pieces and sum(pieces[-1]) == first:
            first, num = pieces[-1][0], pieces.pop()[1] + num
        pieces.append((first, num))
    return pieces


def _cut_round(index: int, path: Path, size: int, counts: Counts) -> list[_Chunk]:
    """The chunks of one file; its impressions are added to `counts`."""
    cuts = [0, *_cuts(_timeline_starts(path, counts), size)]
    return [_Chunk(index, first, end - first) for first, end in pairwise(cuts)]


def _cuts(starts: Iterable[np.ndarray], size: int) -> Iterator[int]:
    """Rows where chunks of at most `size` rows, or of one longer timeline, end.

    Args:
        starts: ascending rows where timelines start, window by window; the last is the number of
            rows.
        size: rows of a chunk, at most.
    """
    first = latest = 0  # start of the open chunk, and of the last timeline that began in it
    for window in starts:
        while True:
            beyond = int(np.searchsorted(window, first + size, side="right"))
            latest = max(latest, int(window[beyond - 1]) if beyond else 0)
            if beyond == len(window):
                break
            first = latest if latest > first else int(window[beyond])
            yield first
    if latest > first:
        yield latest


def _timeline_starts(path: Path, counts: Counts) -> Iterator[np.ndarray]:
    """Rows where timelines start, then the number of rows; impressions go into `counts`."""
    events = scan_checked(path, "sessions").select("history_id", "position", "split", "holdout")
    num_events = int(events.select(pl.len()).collect().item())
    previous: int | None = None
    for first in range(0, num_events, _WINDOW_EVENTS):
        window = events.slice(first, _WINDOW_EVENTS).collect()
        _count(window, counts)
        history_id = window["history_id"].to_numpy()
        starts = np.flatnonzero(np.diff(history_id, prepend=history_id[0]) != 0)
        if previous != history_id[0]:
            starts = np.concatenate([[0], starts])
        previous = int(history_id[-1])
        yield first + starts
    yield np.array([num_events])


def _count(window: pl.DataFrame, counts: Counts) -> None:
    impressions = window.filter(pl.col("position") >= 0)
    for split, holdout, num in impressions.group_by("split", "holdout").len().iter_rows():
        counts[split_code(split), int(holdout)] += num
