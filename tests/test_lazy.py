"""Faces of packages: written once, complete, and without a cost before they are used."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import recomind

FACES = sorted(
    f"recomind.{path.parent.relative_to(Path(recomind.__file__).parent).as_posix()}".replace(
        "/", "."
    )
    for path in Path(recomind.__file__).parent.rglob("__init__.py")
    if "= lazy(__name__)" in path.read_text()
)
HEAVY = {"torch", "numpy", "polars", "ray", "tensordict", "sklearn", "matplotlib", "onnx"}


def offered(face: str) -> set[str]:
    """The names that type checkers see."""
    source = ast.parse(Path(str(importlib.import_module(face).__file__)).read_text())
    guarded = [node for node in source.body if isinstance(node, ast.If)]
    imports = [n for node in guarded for n in node.body if isinstance(n, ast.ImportFrom)]
    return {alias.name for node in imports for alias in node.names}


@pytest.mark.parametrize("face", FACES)
def test_a_face_offers_what_it_lists(face: str) -> None:
    module = importlib.import_module(face)
    assert offered(face) == set(module.__all__)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("face", FACES)
def test_no_name_is_hidden_by_a_module_of_the_same_name(face: str) -> None:
    module = importlib.import_module(face)
    files = {info.name for info in pkgutil.iter_modules(module.__path__)}
    assert not files & set(module.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    from recomind import candidates

    with pytest.raises(AttributeError, match=r"'recomind\.candidates' has no attribute 'Pool'"):
        _ = candidates.Pool  # type: ignore[attr-defined]


def imported_by(statement: str) -> set[str]:
    program = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [f"import {', '.join(FACES)}", "import recomind.config", "import recomind.cli.application"],
    ids=["faces", "config", "application"],
)
def test_nothing_heavy_is_imported_before_it_is_used(statement: str) -> None:
    assert not imported_by(statement) & HEAVY


def test_what_is_used_is_imported() -> None:
    assert imported_by("from recomind.candidates import CandidatePool") >= {"torch"}


def test_the_version_costs_nothing() -> None:
    assert not imported_by("from recomind import __version__") & {*HEAVY, "hydra", "omegaconf"}
