"""How guesses are spelt: columns in SQL, names of tasks, text in YAML."""

from __future__ import annotations

import json
import re

import polars as pl

from recomind.data.sessions import SCHEMA


def sql_name(column: str) -> str:
    """A column as an SQL expression names it."""
    return column if re.fullmatch(r"[A-Za-z_]\w*", column) else f'"{column}"'


def amount_text(rows: pl.DataFrame, name: str, what: str) -> str:
    """A column of seconds, or of chances, as the config has it."""
    in_ms = name.endswith("ms")
    value = sql_name(name) if in_ms else name
    if what == "dwell_s" and rows[name].null_count():
        value = f"coalesce({sql_name(name)}, 0)"
    return f"{value} / 1000" if in_ms else value


def flag_text(rows: pl.DataFrame, name: str) -> str:
    """A column of 0/1 as the config has it; nothing was done where it has a gap."""
    if not rows[name].null_count():
        return name
    no = {pl.Boolean: "false", pl.String: "'no'"}.get(type(rows[name].dtype), "0")  # pyright: ignore
    return f"coalesce({sql_name(name)}, {no})"


def task_name(column: str) -> str:
    """A task named like a column, by a name that tasks may have."""
    name = re.sub(r"\W", "_", column).removeprefix("is_")
    taken = not name.isidentifier() or name in SCHEMA or name.startswith("u_")
    return f"did_{name}" if taken else name


def yaml_text(value: str) -> str:
    """Text as YAML reads it back: plain where it may be, else in quotes."""
    plain = re.fullmatch(r"[A-Za-z_][\w./*=-]*|[\w./*=-]*[*/][\w./*=-]*", value)
    word = value.lower() in ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
    return value if plain and not word else json.dumps(value)


def yaml_list(values: list[str]) -> str:
    """A list of text as YAML, on one line."""
    return f"[{', '.join(map(yaml_text, values))}]"
