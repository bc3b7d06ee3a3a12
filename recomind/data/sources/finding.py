"""Which files a table lies in, and of which kind they are."""

from __future__ import annotations

import glob
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recomind.errors import ConfigError, did_you_mean

_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
}
_FORMATS = ("csv", "ndjson", "parquet")


@dataclass(kw_only=True, slots=True)
class Files:
    """Where a table lies and how it is read."""

    path: Any = ""  # a file, a folder, a pattern such as logs/day=*/*.parquet, a URL, or a list
    format: str = ""  # csv, ndjson or parquet; empty: by the name's ending
    csv: dict[str, Any] = field(default_factory=dict)  # dialect: arguments of polars.scan_csv
    columns: dict[str, str] = field(default_factory=dict)  # further columns, by SQL expressions
    where: str = ""  # SQL condition: other rows are left out
    explode: str = ""  # a column of lists, or text with blanks, that gives a row for each entry


def find_paths(path: Any, setting: str) -> list[str]:
    """The files that `path` names, in the order of their names.

    Raises:
        ConfigError: there is none.
    """
    given = [path] if isinstance(path, (str, Path)) else list(path or [])
    found: list[str] = []
    for entry in map(str, given):
        if "://" in entry:
            found.append(entry)
            continue
        here = str(Path(entry).expanduser())
        names = glob.glob(here, recursive=True)
        if Path(here).is_dir():
            names = glob.glob(f"{here}/**/*", recursive=True)
        found += sorted(name for name in names if Path(name).is_file() and _visible(name))
    if not found:
        raise ConfigError(
            f"{setting} names no file",
            got=repr(path),
            expected="a file, a folder, or a pattern such as logs/day=*/*.parquet",
            mend=f"paths are taken from {Path.cwd()}",
        )
    return found


def _visible(name: str) -> bool:
    return not Path(name).name.startswith((".", "_"))  # such as _SUCCESS


def kind_of(files: Files, paths: list[str], setting: str) -> str:
    """csv, ndjson or parquet, as the config says or by the names' endings.

    Raises:
        ConfigError: another format, an ending that tells none, or files of several kinds.
    """
    if files.format:
        if files.format not in _FORMATS:
            hint = did_you_mean(files.format, _FORMATS)
            raise ConfigError(f"unknown {setting}.format {files.format!r}: {hint}")
        return files.format
    kinds = {_kind_by_name(path): path for path in reversed(paths)}
    if "" in kinds:
        raise ConfigError(
            f"the kind of {setting}.path cannot be told from its name",
            got=kinds[""],
            expected=f"a name that ends in {', '.join(_SUFFIXES)}",
            mend=f"set {setting}.format to csv, ndjson or parquet",
        )
    if len(kinds) > 1:
        raise ConfigError(
            f"{setting}.path names files of several kinds",
            got=", ".join(sorted(kinds.values())),
            mend="name those of one kind, as in logs/**/*.parquet",
        )
    return next(iter(kinds))


def _kind_by_name(path: str) -> str:
    """Empty where the name does not tell."""
    suffix = Path(path.removesuffix(".gz").removesuffix(".zst")).suffix.lower()
    return _SUFFIXES.get(suffix, "")
