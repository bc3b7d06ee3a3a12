"""The official KuaiRand-Pure files, read and checked.

Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed
Videos", CIKM 2022. Every column is read as text first, so that a value of the wrong type can be
shown with its file, column and row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recomind.data.parquet import UNREADABLE, check_parquet
from recomind.data.sources.kuairand.columns import CODES
from recomind.data.sources.text import unreadable
from recomind.data.times import check_span
from recomind.data.validate import (
    cast_column,
    require_all,
    require_columns,
    require_present,
    require_rows,
)
from recomind.errors import ConfigError, SchemaError

USERS, VIDEOS = "user_features_pure.csv", "video_features_basic_pure.csv"  # _1k, _27k alike
HISTORY = "history_before_4_25.parquet"  # not official: events before the log, without times
# 25 April 2022 in Shanghai less two hours: by `time_ms` some events of that `date` are earlier.
_HISTORY_UNTIL_MS = 1_650_816_000_000 - 2 * 3_600_000

_Types = dict[str, type[pl.DataType]]
_LOG: _Types = {
    "user_id": pl.Int64,
    "video_id": pl.Int64,
    "time_ms": pl.Int64,
    "is_like": pl.Int64,
    "is_hate": pl.Int64,
    "long_view": pl.Int64,
    "play_time_ms": pl.Int64,
    "is_rand": pl.Int64,
    "tab": pl.Int64,
}
_FLAGS = ("is_like", "is_hate", "long_view", "is_rand")
_USERS: _Types = {
    "user_id": pl.Int64,
    "user_active_degree": pl.String,
    "follow_user_num": pl.Int64,
    "fans_user_num": pl.Int64,
    "friend_user_num": pl.Int64,
    "register_days": pl.Int64,
    **dict.fromkeys(CODES, pl.Float64),
}
_VIDEOS: _Types = {
    "video_id": pl.Int64,
    "author_id": pl.Int64,
    "video_type": pl.String,
    "upload_dt": pl.Date,
    "video_duration": pl.Float64,
    "server_width": pl.Float64,
    "server_height": pl.Float64,
    "music_type": pl.Float64,
    "tag": pl.String,
}
_SIZES = ("server_width", "server_height")
_MAY_BE_MISSING = {"video_duration", "music_type", "tag", *CODES}  # the official tables have gaps


def checked_log(root: str, *, use_history_file: bool) -> pl.DataFrame:
    """The log of the folder `root`, whose files have all been checked.

    Raises:
        ConfigError: `root` is empty or is not a folder.
        SchemaError: a file or column is missing, or a value may not be.
    """
    files = official_files(root)
    users = _table(files.users, _USERS, "user_id")
    videos = _table(files.videos, _VIDEOS, "video_id")
    log = _read_logs(files.logs)
    _require_known(log, "user_id", users, files.users.name)
    _require_known(log, "video_id", videos, files.videos.name)
    if use_history_file:
        _check_history(files.history, log, videos)
    return log


@dataclass(kw_only=True, slots=True)
class OfficialFiles:
    """Where the files lie."""

    users: Path
    videos: Path
    history: Path
    logs: list[Path]  # the standard logs, then the random ones


def official_files(root: str) -> OfficialFiles:
    """The files of `root`, by their names in Pure, 1K or 27K.

    Raises:
        ConfigError: `root` is empty or is not a folder.
        SchemaError: no log.
    """
    folder = _folder(root)
    logs = sorted(folder.glob("log_standard_*.csv"))
    if not logs:
        raise SchemaError("no log file here", got=folder, expected="log_standard_*.csv")
    return OfficialFiles(
        users=_one(folder, USERS),
        videos=_one(folder, VIDEOS),
        history=folder / HISTORY,
        logs=logs + sorted(folder.glob("log_random_*.csv")),
    )


def _one(folder: Path, name: str) -> Path:
    """The file of that name, or the one of another size of the data set."""
    alike = sorted(folder.glob(name.replace("_pure", "_*")))
    return alike[0] if len(alike) == 1 else folder / name


def raw_files(root: str) -> list[Path]:
    """The files that are read, those that exist."""
    files = official_files(root)
    every = [files.users, files.videos, files.history, *files.logs]
    return [path for path in every if path.is_file()]


def _folder(root: str) -> Path:
    folder = Path(root).expanduser()
    if not root or not folder.is_dir():
        raise ConfigError(
            "data.root is not a folder",
            got=repr(root),
            expected=f"the KuaiRand-Pure folder that holds {USERS}",
            mend="download KuaiRand-Pure and set data.root to its data folder",
        )
    return folder


def _read_logs(paths: list[Path]) -> pl.DataFrame:
    log = pl.concat([_read_csv(path, _LOG) for path in paths])
    require_rows(log, f"the log {paths[0].name}")
    if log["time_ms"].n_unique() == 1:
        raise SchemaError(
            "column 'time_ms' of the log holds one value only, so events have no order",
            got=f"{log['time_ms'][0]} in all {log.height} rows",
            expected="Unix milliseconds",
        )
    return log


def _read_csv(path: Path, types: _Types) -> pl.DataFrame:
    if not path.is_file():
        raise SchemaError("a file is missing", got=path, expected="the official file name")
    try:
        frame = _lazy_text(path, types).collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(path, error) from error
    for column, dtype in types.items():
        frame = cast_column(frame, column, dtype, path.name)
    require_present(frame, [c for c in types if c not in _MAY_BE_MISSING], path.name)
    for column, dtype in types.items():
        _check_range(frame, column, dtype, path.name)
    if "time_ms" in types:
        check_span(frame["time_ms"], path.name)
    return frame


def _lazy_text(path: Path, types: _Types) -> pl.LazyFrame:
    try:
        lazy = pl.scan_csv(path, infer_schema=False)
        known = lazy.collect_schema().names()
    except pl.exceptions.NoDataError as error:
        raise SchemaError(f"{path.name} is empty", got="0 bytes", expected="a header") from error
    require_columns(known, list(types), path.name)
    return lazy.select(list(types))


def _check_range(frame: pl.DataFrame, column: str, dtype: type[pl.DataType], where: str) -> None:
    value = pl.col(column)
    if column in _FLAGS:
        require_all(frame, column, value.is_in([0, 1]), expected="0 or 1", where=where)
    elif dtype is pl.Int64:
        require_all(frame, column, value >= 0, expected=">= 0", where=where)
    elif dtype is pl.Float64:
        low = 1 if column in _SIZES else 0
        finite = value.is_null() | (value.is_finite() & (value >= low))
        require_all(frame, column, finite, expected=f"a finite number >= {low}", where=where)


def _table(path: Path, types: _Types, key: str) -> pl.DataFrame:
    table = _read_csv(path, types)
    require_rows(table, path.name)
    require_all(table, key, pl.col(key).is_unique(), expected="one row each", where=path.name)
    return table


def _require_known(
    log: pl.DataFrame, key: str, table: pl.DataFrame, name: str, where: str = "the log"
) -> None:
    known = pl.col(key).is_in(table[key].implode())
    require_all(log, key, known, expected=f"a {key} of {name}", where=where)


def _check_history(path: Path, log: pl.DataFrame, videos: pl.DataFrame) -> None:
    """Check the events before the log, where there is such a file."""
    if not path.is_file():
        return
    if log.select(pl.col("time_ms").min()).item() < _HISTORY_UNTIL_MS:
        raise ConfigError(
            f"{path.name} would tell of events that the log holds too",
            got="a log from before 25 April 2022",
            mend="set data.use_history_file=false",
        )
    columns = ["user_id", "pos", "video_id", "long_view"]
    try:
        check_parquet(path)
        lazy = pl.scan_parquet(path)
        require_columns(lazy.collect_schema().names(), columns, path.name)
        history = lazy.select(columns).collect()
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    flags = pl.col("long_view").is_in([0, 1])
    require_all(history, "long_view", flags, expected="0 or 1", where=path.name)
    _require_known(history, "video_id", videos, VIDEOS, path.name)
