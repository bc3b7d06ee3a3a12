"""The log of decisions: what was shown to whom, out of what, with which probability.

A decision is written to a journal before it is answered, so that whatever was answered is in the
log, also after a SIGKILL; once a second the journal is flushed to the disk. A journal that is full
or old becomes a Parquet part in the background. Journals of a process that died become parts when
the next one starts; a part has its journal's name, so that nothing is kept twice.

    folder/0191e0.jsonl          being written, locked by its process
    folder/0191e0.parquet        whole
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from io import FileIO
from pathlib import Path

import polars as pl

from recomind.artifacts import sync_folder
from recomind.data.sources.served.decisions import JOURNAL, PART, write_part
from recomind.errors import ArtifactError

_SYNC_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class DecisionRecord:
    """One row of the log; see `recomind.data.sources.served.decisions.SCHEMA`."""

    decision_id: str
    request_id: str
    time_ms: int
    session_id: str
    user_id: int
    step: int
    gap_s: float
    user_features: list[float]
    history_item_id: list[int]
    history_feedback: list[list[bool]]
    history_dwell_s: list[float]
    history_gap_s: list[float]
    pool_item_id: list[int]
    pool_log_propensity: list[float]
    pool_score: list[float]
    pool_supported: list[bool]
    item_id: int
    shown_item_id: list[int]
    log_propensity: float
    explored: bool
    arm: str
    reason: str
    scorer: str
    catalogue: str


class DecisionLog:
    """Writes decisions of one process; several may write to one folder.

    Args:
        folder: where; it is made.
        part_rows: decisions after which a journal becomes a part.
        part_s: seconds after which it does.

    Raises:
        ArtifactError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, part_rows: int = 100_000, part_s: float = 3600.0) -> None:
        self.folder, self.part_rows, self.part_s = Path(folder), part_rows, part_s
        self._lock, self._is_closing = threading.Lock(), threading.Event()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            recover(self.folder)
            self._open()
        except OSError as error:
            raise ArtifactError(
                "the log of decisions cannot be written", got=f"{self.folder}: {error.strerror}"
            ) from error
        self._thread = threading.Thread(target=self._keep, name="decision-log", daemon=True)
        self._thread.start()

    def append(self, records: Sequence[DecisionRecord]) -> bool:
        """Write decisions; False where the disk does not take them, which holds no answer up."""
        lines = b"".join(
            json.dumps(_row(record), separators=(",", ":")).encode() + b"\n" for record in records
        )
        with self._lock:
            try:
                _write_whole(self._journal, lines)
            except OSError as error:
                _log.error("decisions are not logged: %s", error)
                return False
            self._num_rows += len(records)
            return True

    def close(self) -> None:
        """Make a part of what is there."""
        self._is_closing.set()
        self._thread.join()
        with self._lock:
            journal, path = self._journal, self._path
        _to_part(path)
        journal.close()

    def _open(self) -> None:
        self._path = self.folder / f"{time.time_ns():019d}-{uuid.uuid4().hex[:8]}{JOURNAL}"
        self._journal = FileIO(self._path, "a")
        fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._num_rows, self._opened_s = 0, time.monotonic()

    def _keep(self) -> None:
        """Flush the journal once a second, and turn a full or old one into a part."""
        while not self._is_closing.wait(_SYNC_S):
            try:
                os.fsync(self._journal.fileno())
                is_old = time.monotonic() - self._opened_s > self.part_s
                if self._num_rows >= self.part_rows or (self._num_rows and is_old):
                    self._rotate()
            except (OSError, pl.exceptions.PolarsError) as error:
                _log.error("the log of decisions could not be kept: %s", error)

    def _rotate(self) -> None:
        with self._lock:
            journal, path = self._journal, self._path
            self._open()
        _to_part(path)
        journal.close()


def _row(record: DecisionRecord) -> dict[str, object]:
    return {each.name: getattr(record, each.name) for each in fields(record)}


def recover(folder: Path) -> int:
    """Turn journals that nobody writes any more into parts; returns how many there were."""
    num = 0
    for path in sorted(Path(folder).glob(f"*{JOURNAL}")):
        with path.open("rb") as journal:
            try:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # its process lives
                continue
            try:
                _to_part(path)
                num += 1
            except pl.exceptions.PolarsError as error:  # it stays, for whoever can mend it
                _log.error("a damaged journal of decisions: %s: %s", path, error)
    return num


def _to_part(path: Path) -> None:
    staging = path.with_suffix(".tmp")
    try:
        if write_part(path, staging):
            with staging.open("rb") as file:
                os.fsync(file.fileno())
            staging.replace(path.with_suffix(PART))
            sync_folder(path.parent)
        path.unlink()
    finally:
        staging.unlink(missing_ok=True)


def _write_whole(file: FileIO, data: bytes) -> None:
    """All of `data` or, where the disk is full, nothing of it."""
    begin = file.seek(0, os.SEEK_END)
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError:
        file.truncate(begin)
        raise
