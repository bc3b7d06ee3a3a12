"""Columns and SQL expressions of a config as polars expressions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from recomind.errors import ConfigError, did_you_mean

_QUOTED = re.compile(r"""('(?:[^']|'')*'|"[^"]*")""")
_DECIMAL = re.compile(r"(?<![\w.])(\d+\.\d*|\.\d+)(?![\w.])")


def expression(text: object, columns: Sequence[str], setting: str, where: str) -> pl.Expr:
    """What `text` stands for: a column's name as it is, or an SQL expression over columns.

    Decimal numbers count as floats: as SQL's decimals, 1.0 / 3 would be .3333333.

    Raises:
        ConfigError: neither; a column that `where` lacks is named.
    """
    text = str(text)
    if text in columns:
        return pl.col(text)
    try:
        found = pl.sql_expr(_as_floats(text))
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            f"{setting} is neither a column nor an SQL expression",
            got=f"{text!r}: {error}",
            mend=_mend(text, columns),
        ) from error
    for name in found.meta.root_names():
        if name not in columns:
            raise ConfigError(
                f"{setting} names a column that {where} lacks",
                got=repr(name),
                mend=did_you_mean(name, columns),
            )
    return found


def _mend(text: str, columns: Sequence[str]) -> str:
    """A column whose name is no plain word has to stand in quotes within an expression."""
    odd = [name for name in columns if not name.isidentifier() and name in text]
    if not odd:
        return did_you_mean(text, columns)
    name = max(odd, key=len)
    quoted = text.replace(name, f'"{name}"', 1)
    return f"write the column in double quotes, as in '{quoted}'"


def _as_floats(text: str) -> str:
    """SQL whose decimal literals outside quotes are written as floats: 2.5 as 2.5e0."""
    parts = _QUOTED.split(text)
    parts[::2] = [_DECIMAL.sub(r"\1e0", part) for part in parts[::2]]
    return "".join(parts)
