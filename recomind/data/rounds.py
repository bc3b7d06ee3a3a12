"""Sessions artifacts of several rounds as one log."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from recomind.artifacts import read_manifest
from recomind.data.sessions import KIND
from recomind.errors import ArtifactError, ConfigError


def concatenated(frames: Mapping[int, pl.DataFrame]) -> pl.DataFrame:
    """Round -> events, one after another; `history_id` is offset to stay unique across rounds."""
    parts, first = [], 0
    for index, frame in frames.items():
        timeline = pl.col("history_id") - pl.col("history_id").min() + first
        round_index = pl.lit(index, dtype=pl.Int64).alias("round_index")
        parts.append(frame.with_columns(timeline, round_index))
        first = int(parts[-1]["history_id"].max()) + 1  # pyright: ignore
    return pl.concat(parts)


def read_facts(folders: Sequence[Path]) -> dict[str, Any]:
    """What the last of the manifests says; tasks and features are the same in all of them.

    `events_of` is how many events each of the rounds has.

    Raises:
        ArtifactError: an artifact is absent or damaged, the rounds differ, or one has fewer items
            than the one before it: a catalogue grows, and its ids stay.
        ConfigError: no folder.
    """
    if not folders:
        raise ConfigError("no sessions to load", got="no folder", expected="at least one")
    extras = [read_manifest(Path(folder), KIND).extra for folder in folders]
    for name in ("tasks", "user_feature_names"):
        _require_equal(name, [extra[name] for extra in extras], folders)
    _require_growth([extra["num_items"] for extra in extras], folders)
    return extras[-1] | {"events_of": [extra["num_events"] for extra in extras]}


def require_events(found: int, facts: Mapping[str, Any], index: int, folder: Path) -> None:
    """Raise an ArtifactError where a round has not as many events as its manifest says."""
    if found != facts["events_of"][index]:
        raise ArtifactError(
            "sessions with another number of events than their manifest says",
            got=f"{found} in {folder}",
            expected=facts["events_of"][index],
            mend="write the sessions anew",
        )


def _require_equal(name: str, values: list[object], folders: Sequence[Path]) -> None:
    for value, folder in zip(values, folders, strict=True):
        if value != values[0]:
            raise ArtifactError(
                f"rounds of sessions differ in {name}",
                got=f"{value} in {folder}",
                expected=f"{values[0]} as in {folders[0]}",
            )


def _require_growth(num_items: Sequence[int], folders: Sequence[Path]) -> None:
    for (before, after), folder in zip(itertools.pairwise(num_items), folders[1:], strict=True):
        if after < before:
            raise ArtifactError(
                "a round of sessions with fewer items than the one before",
                got=f"{after} in {folder}",
                expected=f"at least {before}",
            )
