"""Package faces that import a module only when one of its names is first used (PEP 562)."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any


def lazy(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that says under TYPE_CHECKING what it offers.

    The imports are written once: type checkers and import-linter read them as they are, and here
    they are read from the source, so that a usage line does not wait for torch.

        if TYPE_CHECKING:
            from recomind.data.config import DataConfig
        else:
            __getattr__, __dir__ = lazy(__name__)
    """
    module = sys.modules[package]
    homes = _homes(inspect.getsource(module))

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(module, name, value)  # from now on it is found without this function
        return value

    return getattr_, lambda: sorted({*vars(module), *homes})


def _homes(source: str) -> dict[str, str]:
    """For each name that `source` imports under TYPE_CHECKING, the module that defines it."""
    homes = {}
    guarded = (node for node in ast.parse(source).body if isinstance(node, ast.If))
    for node in (each for block in guarded for each in block.body):
        if isinstance(node, ast.ImportFrom):
            homes |= {alias.name: str(node.module) for alias in node.names}
    return homes
