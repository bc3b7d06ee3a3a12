"""JSON on disk."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import uuid
from pathlib import Path


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically; NaN is refused, it is not JSON."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with staging.open("w") as file:
        json.dump(value, file, indent=2, sort_keys=True, allow_nan=False, default=_plain)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)


def _plain(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
