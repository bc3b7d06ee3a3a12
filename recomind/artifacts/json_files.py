"""JSON on disk: written atomically, read with bounds."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
import uuid
from pathlib import Path
from typing import Any

from recomind.artifacts.checked_reading import brief
from recomind.artifacts.disk import room_for
from recomind.errors import ArtifactError

MAX_BYTES = 256 * 2**20  # largest JSON file; the largest of ours, a checkpoint's tree, has a few MB
MAX_DEPTH = 100  # deepest nesting


def read_json(path: Path, what: str = "JSON", mend: str = "") -> Any:
    """Read JSON that is what it seems: no key twice, no NaN, no infinity, no abyss.

    Args:
        path: of the file.
        what: it is, for the error, such as "manifest".
        mend: what the user can do.

    Raises:
        ArtifactError: absent, too large, or no such JSON.
    """
    try:
        value = parse_json(_text(Path(path)))
    except (OSError, ValueError, RecursionError) as error:
        got = f"{path}: {brief(error)}"
        raise ArtifactError(f"unreadable {what}", got=got, mend=mend) from error
    return value


def _text(path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes, more than {MAX_BYTES}")
    return path.read_bytes().decode()


def parse_json(text: str) -> Any:
    """Parse JSON as `read_json` does; ValueError or RecursionError where it is none.

    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: a key that comes twice: 'a'
    """
    value = json.loads(
        text, object_pairs_hook=_distinct, parse_float=_finite, parse_constant=_refused
    )
    if _depth(value) > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"a key that comes twice: {next(n for n in names if names.count(n) > 1)!r}"
        )
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"a number that is not finite: {text[:30]}")
    return value


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _depth(value: Any) -> int:
    """How deep lists and objects lie in each other, without recursion."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, (dict, list)) and v]:
        depth += 1
        level = [c for v in level for c in (v.values() if isinstance(v, dict) else v)]
    return depth


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically; NaN is refused, it is not JSON.

    Raises:
        DiskFullError: there is no room; an earlier file stays as it is.
    """
    path = Path(path)
    with room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with room_for(path):
        try:
            with staging.open("w") as file:
                json.dump(value, file, indent=2, sort_keys=True, allow_nan=False, default=plain)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            staging.replace(path)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise


def plain(value: object) -> object:
    """The JSON form of what is not JSON by itself: enums, paths, configs."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
