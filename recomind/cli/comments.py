"""The comment beside each field of a config, which is its help text."""

from __future__ import annotations

import ast
import inspect
import textwrap


def field_comments(config: type) -> dict[str, str]:
    """What the source of the dataclass `config` says of each of its fields; "" for nothing.

    A comment belongs to the field on its line. A block of comments alone on their lines belongs to
    the field below where that one has no comment of its own, and else goes on from the field above.
    """
    lines = textwrap.dedent(inspect.getsource(config)).splitlines()
    (body,) = (n.body for n in ast.parse("\n".join(lines)).body if isinstance(n, ast.ClassDef))
    fields = [n for n in body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
    comments: dict[str, str] = {}
    above = ""
    for field in fields:
        own = _trailing(lines, field)
        block = _block(lines, field.lineno - 2)
        if block and own and above:
            comments[above] = f"{comments[above]} {block}".strip()
        above = str(getattr(field.target, "id", ""))
        comments[above] = own or block
    if fields:
        after = _block_below(lines, fields[-1].end_lineno or 0)
        comments[above] = f"{comments[above]} {after}".strip()
    return comments


def _trailing(lines: list[str], field: ast.AnnAssign) -> str:
    line = lines[(field.end_lineno or 1) - 1].encode()
    return _text(line[field.end_col_offset or 0 :].decode())


def _block(lines: list[str], last: int) -> str:
    """The comments that end on the line with index `last`."""
    first = last
    while first >= 0 and lines[first].strip().startswith("#"):
        first -= 1
    return " ".join(_text(line) for line in lines[first + 1 : last + 1])


def _block_below(lines: list[str], first: int) -> str:
    last = first
    while last < len(lines) and lines[last].strip().startswith("#"):
        last += 1
    return _block(lines, last - 1) if last > first else ""


def _text(comment: str) -> str:
    return comment.strip().removeprefix("#").strip()
