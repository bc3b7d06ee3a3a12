"""A figure that could not be had."""

from __future__ import annotations

from typing import Any


def absent(reason: str) -> dict[str, Any]:
    """What stands in the place of a figure, or of a section, that could not be measured."""
    return {"value": None, "reason": reason}


def is_absent(section: object) -> bool:
    """Whether `section` is what `absent` returned."""
    return isinstance(section, dict) and "reason" in section and section.get("value", 0) is None
