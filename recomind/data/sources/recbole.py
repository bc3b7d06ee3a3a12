"""RecBole's atomic files: `.inter`, `.user` and `.item`, tab-separated with typed headers.

    user_id:token   item_id:token   rating:float   timestamp:float
    196             242             3              881250949

`token` is a category, `token_seq` are tags with blanks between them, `float` is a number and
`float_seq` a vector (https://recbole.io/docs/user_guide/data/atomic_files.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recomind.data.sources.preset import Preset
from recomind.errors import SchemaError

_DIALECT = {"separator": "\t", "quote_char": None}
_KINDS = ("token", "token_seq", "float", "float_seq")


@dataclass(kw_only=True, slots=True)
class RecBole(Preset):
    """The atomic files of the folder `root`; a rating of `liked_from` or more is `liked`."""

    liked_from: float = 4.0  # least value of the column `rating`, where there is one

    def settings(self, folder: Path) -> dict[str, Any]:
        """Columns by their types in the headers."""
        log, kinds = _table(folder, ".inter")
        for name in ("user_id", "item_id", "timestamp"):
            if name not in kinds:
                raise SchemaError(f"column {name!r} is missing from the .inter file", got=[*kinds])
        settings: dict[str, Any] = {
            "log": log | {"user": "user_id", "item": "item_id", "time": "timestamp"},
            "tasks": self._tasks(kinds),
            "sessions": {"gap": "1h"},
        }
        for name, ending in (("items", ".item"), ("users", ".user")):
            if any(folder.glob(f"*{ending}")):
                settings[name] = _features(*_table(folder, ending), key=f"{name[:-1]}_id")
        return settings

    def _tasks(self, kinds: dict[str, str]) -> Any:
        if self.tasks:
            return self.tasks
        if "label" in kinds:
            return {"liked": "label"}
        if "rating" in kinds:
            return {"liked": f"rating >= {self.liked_from}"}
        raise SchemaError(
            "the .inter file has neither a rating nor a label",
            got=[*kinds],
            mend="say in data.tasks what a response is, such as bought: '1'",
        )


def _table(folder: Path, ending: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Where a table lies, with its columns by their plain names; and their kinds."""
    paths = sorted(folder.glob(f"*{ending}"))
    if len(paths) != 1:
        raise SchemaError(
            f"one {ending} file is needed", got=f"{len(paths)} in {folder}", expected="one data set"
        )
    with paths[0].open() as file:
        header = file.readline().rstrip("\r\n").split("\t")
    kinds = {}
    for column in header:
        name, _, kind = column.partition(":")
        if kind not in _KINDS:
            raise SchemaError(
                f"a header of {paths[0].name} has no type",
                got=repr(column),
                expected=f"name:type, of {', '.join(_KINDS)}",
            )
        kinds[name] = kind
    columns = {name: f'"{name}:{kind}"' for name, kind in kinds.items()}
    table = {"path": str(paths[0]), "format": "csv", "csv": _DIALECT, "columns": columns}
    return table, kinds


def _features(table: dict[str, Any], kinds: dict[str, str], key: str) -> dict[str, Any]:
    """Settings of the items or the users."""
    chosen = {kind: [n for n, k in kinds.items() if k == kind and n != key] for kind in _KINDS}
    found = table | {"id": key, "numbers": chosen["float"], "categories": chosen["token"]}
    if key == "item_id":
        found["tags"] = {n: f"string_to_array({n}, ' ')" for n in chosen["token_seq"]}
        found["vectors"] = chosen["float_seq"]
    return found
