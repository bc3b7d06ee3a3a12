"""The "sessions" artifact: events in order, and the catalogue they refer to.

A user with one event before the log and a session of two, tasks `click` and `hide`:

    history_id session_id position item_id click hide dwell_s left  left_known split
             7          0       -1      31     1    0     9.5 False False      history
             7          1        0      17     0    0     1.0 False True       train
             7          1        1       4     1    0    12.0 True  True       train
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from recomind.artifacts import Manifest, write_artifact
from recomind.data.catalogue import StoredCatalogue
from recomind.data.validate import (
    Rule,
    require_all,
    require_columns,
    require_each,
    require_present,
    require_rows,
    require_schema,
)
from recomind.errors import ArtifactError, ConfigError, SchemaError, did_you_mean

KIND, EVENTS = "sessions", "sessions.parquet"
_FEW_VALUES = ["split", "snapshot", "position"]  # a dictionary of others costs and saves nothing
_BATCH_EVENTS = 500_000  # events of a lazy frame that are checked and written at once
ROW_GROUP_EVENTS = 50_000  # events of a row group; a reader of a part reads whole row groups
SPLITS = ("history", "train", "calibration", "test")
ORDER = ("history_id", "time_ms", "position")
SCHEMA: dict[str, pl.DataType] = {
    "history_id": pl.Int64(),  # equal for the events of one timeline
    "session_id": pl.Int64(),
    "position": pl.Int32(),  # 0-based in the session; -1: before the log, history only
    "user_id": pl.Int64(),
    "time_ms": pl.Int64(),  # Unix milliseconds, or any clock that orders a timeline
    "item_id": pl.Int64(),
    "dwell_s": pl.Float32(),  # seconds
    "left": pl.Boolean(),  # the user left after this event
    "left_known": pl.Boolean(),  # False where the end of the session is censored
    "propensity": pl.Float64(),  # probability of the item given its pool; null where unknown
    "split": pl.String(),
    "holdout": pl.Boolean(),  # user reserved for hold-out simulators
    "snapshot": pl.Int32(),  # the catalogue as known then: nothing of this event's day or later
}
_WHERE = "the sessions"


def write_sessions(
    folder: Path,
    frame: pl.DataFrame | pl.LazyFrame,
    catalogue: StoredCatalogue,
    *,
    tasks: Sequence[str],
    manifest: Manifest,
    extra: Mapping[str, Any] | None = None,
    tables: Mapping[str, pl.DataFrame] | None = None,
) -> None:
    """Check events and write them with their catalogue, whole or not at all.

    Args:
        folder: where the artifact goes.
        frame: one row an event: the columns of `SCHEMA`, one UInt8 column 0/1 a task, and
            float32 columns `u_<name>`, standardised. Sorted here by `ORDER`, except for a lazy
            frame: that is sorted already, and is checked and written batch by batch.
        catalogue: the items.
        tasks: names of the task columns, in order.
        manifest: of kind "sessions"; `extra` and the facts a reader needs are added to it.
        extra: more to keep in `manifest.extra`, such as counts.
        tables: more Parquet files by name, such as maps of ids.

    Raises:
        SchemaError: an empty frame, or a column or value that may not be.
    """
    names = user_feature_columns(frame)
    whole = isinstance(frame, pl.DataFrame)
    batches = (
        iter([checked_events(frame, catalogue, tasks=tasks)])
        if whole
        else _checked_batches(frame, catalogue, tasks)
    )
    # The first error of a user's is raised before a folder is made.
    first = next(batches)
    manifest.kind = KIND
    manifest.extra |= dict(extra or {})
    manifest.extra |= {"tasks": list(tasks), "user_feature_names": [name[2:] for name in names]}
    with write_artifact(folder, manifest) as staging:
        manifest.extra |= _write_events(staging / EVENTS, itertools.chain([first], batches))
        manifest.extra["num_items"] = catalogue.num_items
        catalogue.save(staging)
        for name, table in (tables or {}).items():
            table.write_parquet(staging / name)


def _checked_batches(
    frame: pl.LazyFrame, catalogue: StoredCatalogue, tasks: Sequence[str]
) -> Iterator[pl.DataFrame]:
    before: pl.DataFrame | None = None
    for batch in frame.collect_batches(chunk_size=_BATCH_EVENTS, maintain_order=True):
        yield checked_events(batch, catalogue, tasks=tasks, before=before)
        before = batch.tail(1)


def _write_events(path: Path, batches: Iterator[pl.DataFrame]) -> dict[str, int]:
    """Write the events of batches, and count them."""
    import pyarrow.parquet as pq  # a quarter of a second that most commands need not spend

    counts, users, writer = Counter[str](), pl.Series("user_id", [], pl.Int64), None
    try:
        for batch in batches:
            table = batch.to_arrow()
            few: Any = _FEW_VALUES
            writer = writer or pq.ParquetWriter(
                path, table.schema, compression="zstd", use_dictionary=few
            )
            writer.write_table(table, row_group_size=ROW_GROUP_EVENTS)
            counts["num_events"] += batch.height
            counts["num_sessions"] += batch.filter(pl.col("position") == 0).height
            users = pl.concat([users, batch["user_id"].unique()]).unique()
    finally:
        if writer is not None:
            writer.close()
    return dict(counts) | {"num_users": len(users)}


def split_code(split: str) -> int:
    """Place of a split in `SPLITS`; ConfigError where there is none of that name."""
    if split not in SPLITS:
        raise ConfigError("unknown split", got=split, mend=did_you_mean(split, SPLITS))
    return SPLITS.index(split)


def user_feature_columns(frame: pl.DataFrame | pl.LazyFrame) -> list[str]:
    """Names of the `u_*` columns in the frame's order."""
    return [name for name in frame.collect_schema().names() if name.startswith("u_")]


def checked_events(
    frame: pl.DataFrame,
    catalogue: StoredCatalogue,
    *,
    tasks: Sequence[str],
    before: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The events sorted by `ORDER`, in the artifact's column order.

    Args:
        frame: events, as `write_sessions` takes them.
        catalogue: the items.
        tasks: names of the task columns, in order.
        before: the event before the first one, of a larger frame that is sorted already.

    Raises:
        SchemaError: an empty frame, or a column or value that may not be.
    """
    if not tasks:
        raise SchemaError("sessions without a task", expected="at least one task column")
    features = user_feature_columns(frame)
    schema = dict(SCHEMA)
    schema |= {task: pl.UInt8() for task in tasks} | {name: pl.Float32() for name in features}
    require_columns(frame.columns, list(schema), _WHERE)
    require_rows(frame, _WHERE)
    require_schema(frame, schema, _WHERE)
    require_present(frame, [name for name in schema if name != "propensity"], _WHERE)
    _check_values(frame, catalogue, tasks, features)
    frame = _sorted(frame.select(list(schema)))
    _check_order(frame, before)
    return frame


def _sorted(frame: pl.DataFrame) -> pl.DataFrame:
    rises = pl.lit(False)
    for name in reversed(ORDER):
        column, previous = pl.col(name), pl.col(name).shift(1)
        rises = (column > previous) | ((column == previous) & rises)
        if name == ORDER[-1]:
            rises |= column == previous
    if frame.select(rises.fill_null(True).all()).item():
        return frame
    return frame.sort(*ORDER, maintain_order=True)


def check_loaded(
    frame: pl.DataFrame, catalogue: StoredCatalogue, facts: Mapping[str, Any], where: object
) -> None:
    """Check events that were read back against what the manifest says of them.

    Args:
        frame: all events of a file, or some.
        catalogue: the items.
        facts: `tasks` and `user_feature_names`.
        where: they were read from.

    Raises:
        ArtifactError: a column or value that may not be.
    """
    tasks, features = list(facts["tasks"]), [f"u_{name}" for name in facts["user_feature_names"]]
    schema = SCHEMA | {task: pl.UInt8() for task in tasks}
    schema |= {name: pl.Float32() for name in features}
    try:
        require_rows(frame, _WHERE)
        require_schema(frame, schema, _WHERE)
        require_present(frame, [name for name in schema if name != "propensity"], _WHERE)
        _check_values(frame, catalogue, tasks, features)
    except SchemaError as error:
        raise ArtifactError("sessions that no stage wrote", got=f"{where}: {error}") from error


def _check_values(
    frame: pl.DataFrame, catalogue: StoredCatalogue, tasks: Sequence[str], features: list[str]
) -> None:
    rules: list[Rule] = [
        ("item_id", _within("item_id", catalogue.num_items), f"in [0, {catalogue.num_items})"),
        ("snapshot", _within("snapshot", catalogue.num_snapshots), "a snapshot of the catalogue"),
        ("position", pl.col("position") >= -1, ">= -1"),
        ("split", pl.col("split").is_in(SPLITS), f"one of {', '.join(SPLITS)}"),
        (
            "split",
            (pl.col("position") >= 0) | (pl.col("split") == "history"),
            "'history' where position is -1",
        ),
        ("dwell_s", _finite("dwell_s") & (pl.col("dwell_s") >= 0), "finite seconds >= 0"),
        (
            "propensity",
            pl.col("propensity").is_null() | pl.col("propensity").is_between(0, 1, closed="right"),
            "in (0, 1], or null where unknown",
        ),
        ("left", pl.col("left_known") | ~pl.col("left"), "False where left_known is False"),
    ]
    rules += [(task, pl.col(task) <= 1, "0 or 1") for task in tasks]
    rules += [(name, _finite(name), "a finite number") for name in features]
    require_each(frame, rules, _WHERE)


def _within(column: str, size: int) -> pl.Expr:
    return pl.col(column).is_between(0, size, closed="left")


def _finite(column: str) -> pl.Expr:
    return pl.col(column).is_finite()


def _check_order(frame: pl.DataFrame, before: pl.DataFrame | None) -> None:
    """Sessions are unbroken runs 0, 1, 2, ... of one timeline: `SessionState.step` counts on it."""
    previous = [pl.col(name).shift(1) for name in ("history_id", "session_id", "position")]
    follows = (
        (previous[0] == pl.col("history_id"))
        & (previous[1] == pl.col("session_id"))
        & (previous[2] == pl.col("position") - 1)
    )
    num_before = 0 if before is None else before.height  # what they follow is not here
    if before is not None:
        frame = pl.concat([before.select(frame.columns), frame])
    require_all(
        frame,
        "position",
        (pl.col("position") <= 0) | follows | (pl.int_range(pl.len()) < num_before),
        expected="positions 0, 1, 2, ... without a gap, in the order of time, in one timeline",
        where=f"{_WHERE} sorted by {', '.join(ORDER)}",
    )
    starts = frame.filter(pl.col("position") == 0)
    if (starts["session_id"].diff().drop_nulls() > 0).all():
        return  # numbers that rise are unique, as those are that a gap cuts
    require_all(
        starts, "session_id", pl.col("session_id").is_unique(), expected="one start", where=_WHERE
    )
