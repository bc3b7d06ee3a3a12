"""The log of decisions as it lies on disk: what was shown to whom, and with which probability.

    folder/0191e0.jsonl          a journal, being written by a service
    folder/0191e0.parquet        a whole part

`recomind.serving.decisions` writes it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from recomind.data.parquet import UNREADABLE, check_parquet
from recomind.errors import ArtifactError

JOURNAL, PART = ".jsonl", ".parquet"
_PIECE = 1 << 16  # bytes
SCHEMA: dict[str, Any] = {
    "decision_id": pl.String,
    "request_id": pl.String,  # the caller's, or ""
    "time_ms": pl.Int64,  # since 1970, UTC, by the service's clock
    "session_id": pl.String,  # the caller's, or ""
    "user_id": pl.Int64,
    "step": pl.Int64,
    "gap_s": pl.Float64,
    "user_features": pl.List(pl.Float32),  # standardised
    "history_item_id": pl.List(pl.Int64),  # events before this one, oldest first
    "history_feedback": pl.List(pl.List(pl.Boolean)),  # each event's, tasks in order
    "history_dwell_s": pl.List(pl.Float32),
    "history_gap_s": pl.List(pl.Float32),
    "pool_item_id": pl.List(pl.Int64),  # every candidate
    # log-probability of being in the pool; 0 for the caller's own candidates
    "pool_log_propensity": pl.List(pl.Float32),
    "pool_score": pl.List(pl.Float32),
    "pool_supported": pl.List(pl.Boolean),
    "item_id": pl.Int64,  # the choice, shown first
    "shown_item_id": pl.List(pl.Int64),  # all that was answered, in order
    "log_propensity": pl.Float64,  # log-probability of the choice, given the pool
    "explored": pl.Boolean,  # the choice is not the best
    "arm": pl.String,  # who answered: "policy", "control", or "ranker" after a fall-back
    "reason": pl.String,  # why it fell back: "error" or "late"
    "scorer": pl.String,  # identity of the scorer's artifact
    "catalogue": pl.String,  # identity of the catalogue that the item ids are rows of
}


def read_decisions(folder: Path) -> pl.DataFrame:
    """All decisions of a folder, those still in journals included, in the order of time.

    Raises:
        ArtifactError: there is no such folder, or a part is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError("no log of decisions here", got=folder)
    frames = [pl.DataFrame(schema=SCHEMA)]
    for path in decision_files(folder):
        try:
            frames.append(read_journal(path) if path.suffix == JOURNAL else _read_part(path))
            everything = pl.concat(frames)
        except FileNotFoundError:  # it became a part between the two lists
            continue
        except UNREADABLE as error:
            raise ArtifactError("a damaged part of the log", got=f"{path}: {error}") from error
        frames = [everything]
    return frames[0].unique("decision_id", keep="first").sort("time_ms", "decision_id")


def _read_part(path: Path) -> pl.DataFrame:
    check_parquet(path)
    return pl.read_parquet(path)


def decision_files(folder: Path) -> list[Path]:
    """Journals first: what becomes a part meanwhile is then found among the parts."""
    return [path for kind in (JOURNAL, PART) for path in sorted(Path(folder).glob(f"*{kind}"))]


def read_journal(path: Path) -> pl.DataFrame:
    """The whole lines of a journal; half a line at its end was never answered."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    return (
        pl.read_ndjson(io.BytesIO(whole), schema=SCHEMA) if whole else pl.DataFrame(schema=SCHEMA)
    )


def write_part(journal: Path, path: Path) -> bool:
    """Write a journal that nobody writes any more as Parquet; False where it holds no line.

    Polars does it in pieces and without the interpreter's lock: a service answers meanwhile.
    """
    with journal.open("rb+") as file:
        end = _end_of_lines(file)
        file.truncate(end)
    if end:
        pl.scan_ndjson(journal, schema=SCHEMA).sink_parquet(path)
    return end > 0


def _end_of_lines(file: BinaryIO) -> int:
    """Where the last whole line ends."""
    at = file.seek(0, os.SEEK_END)
    while at:
        begin = max(0, at - _PIECE)
        file.seek(begin)
        found = file.read(at - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        at = begin
    return 0


def catalogue_identity(files: Mapping[str, str]) -> str:
    """Identity of the catalogue in an artifact, from the hashes of the artifact's files."""
    own = {name: sha for name, sha in files.items() if name.startswith("catalogue")}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
