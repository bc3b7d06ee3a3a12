"""The graph of imports between files, and its cycles, found by parsing and not by importing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path


def modules(root: Path, *packages: str) -> dict[str, Path]:
    """Dotted name -> file of every module in the packages below `root`."""
    found = {}
    for package in packages:
        for path in (root / package).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of `known` that a file imports anywhere, `TYPE_CHECKING` and functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"  # a module, or a name in one
                if (name := inner if inner in known else node.module) in known:
                    yield name


def cycle(root: Path, *packages: str) -> list[str]:
    """One cycle of modules that import one another, first module repeated last; [] for none."""
    known = modules(root, *packages)
    graph = {name: set(imported(path, known)) - {name} for name, path in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # graphlib names it from the imported to the importer
    return []
