"""Old names of what has moved: they work for one version, with a warning."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any


def moved_module(old: str, new: str) -> Callable[[str], Any]:
    """A module's `__getattr__` that takes every name from where the module is now.

    The new module is imported when a name is asked for, so that an alias adds no dependency.

    Args:
        old: the dotted name of the alias.
        new: the dotted name of the module.
    """

    def look_up(name: str) -> Any:
        if name.startswith("__"):  # what the import system asks of every module
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        try:
            found = getattr(importlib.import_module(new), name)
        except AttributeError as error:
            raise AttributeError(f"module {old!r} has no attribute {name!r}") from error
        warnings.warn(
            f"{old} is now {new}; the old name goes with the next version",
            FutureWarning,
            stacklevel=2,
        )
        return found

    return look_up
