"""The import contracts hold, and each of them can fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.imports import cycle

ROOT = Path(__file__).parents[1]
MAY_USE_RAY = {"training", "serving", "cli"}
STARTS_RAY = {"local_ray"}  # a file, not a folder
GATHERS_CONFIGS = {"config"}  # imports every room, so Ray reaches it through training


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter with the contracts and the code of `folder`."""
    command = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [command, "--no-cache"],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def contracts() -> dict[str, dict]:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {contract["id"]: contract for contract in linter["contracts"]}


def rooms() -> set[str]:
    layers = " : ".join(contracts()["layers"]["layers"])
    return {name.strip(" ()") for name in re.split("[:|]", layers)}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project's code and contracts, free to be broken."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("recomind", "simulators"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignore)
    return tmp_path


def test_imports_keep_the_contracts() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout
    assert "4 kept, 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("path", "line", "named"),
    [
        ("recomind/data/planted.py", "import recomind.policy", "recomind.data.planted"),
        ("recomind/streams_user.py", "import recomind.streams", "recomind.streams_user"),
        ("recomind/candidates/planted.py", "import ray", "recomind.candidates.planted -> ray"),
        ("recomind/pipeline/planted.py", "import ray", "recomind.pipeline.planted -> ray"),
        ("recomind/pipeline/planted.py", "import recomind.cli", "recomind.pipeline.planted"),
        (
            "recomind/serving/planted.py",
            "import recomind.training.problem",
            "recomind.serving.planted -> recomind.training.problem",
        ),
        ("simulators/planted.py", "from ray import tune", "simulators.planted -> ray"),
        (
            "recomind/evaluation/planted.py",
            "from simulators import video_feed",
            "recomind.evaluation.planted -> simulators",
        ),
    ],
    ids=[
        "upward",
        "unplaced module",
        "ray in a room",
        "ray in the pipeline",
        "the pipeline on the command line",
        "training in serving",
        "ray in a world",
        "world in a room",
    ],
)
def test_a_planted_import_is_named(copy: Path, path: str, line: str, named: str) -> None:
    (copy / path).write_text(f"{line}\n")
    result = lint_imports(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "1 broken" in result.stdout
    assert named in result.stdout


def test_ray_is_allowed_where_it_belongs(copy: Path) -> None:
    for room in MAY_USE_RAY:
        (copy / "recomind" / room / "planted.py").write_text("import ray\n")
    assert lint_imports(copy).returncode == 0


def test_every_other_room_is_guarded_against_ray() -> None:
    guarded = {name.removeprefix("recomind.") for name in contracts()["ray"]["source_modules"]}
    assert guarded == rooms() - MAY_USE_RAY - STARTS_RAY - GATHERS_CONFIGS | {"simulators"}


def test_no_files_import_one_another() -> None:
    found = cycle(ROOT, "recomind", "simulators", "experiments", "benchmarks")
    assert not found, " -> ".join(found)


@pytest.mark.parametrize(
    "back",
    [
        "import recomind.streams",
        "from recomind import streams",
        "from recomind.streams import hash_int64",
        "if TYPE_CHECKING:\n    from recomind.streams import SessionStreams",
        "def late():\n    from recomind.streams import SessionStreams",
    ],
    ids=["module", "from the package", "name", "for types only", "inside a function"],
)
def test_a_planted_cycle_is_named(tmp_path: Path, back: str) -> None:
    (tmp_path / "recomind").mkdir()
    for path in (ROOT / "recomind").glob("*.py"):  # the rooms are parsed by the test above
        shutil.copy(path, tmp_path / "recomind")
    for name, line in (("streams", "import recomind.errors"), ("errors", back)):
        with (tmp_path / "recomind" / f"{name}.py").open("a") as file:
            file.write(f"\n{line}\n")
    found = cycle(tmp_path, "recomind")
    assert set(found) == {"recomind.streams", "recomind.errors"}
    assert found[0] == found[-1]


def test_no_process_waits_for_packages_that_only_a_fit_or_a_check_needs() -> None:
    rooms_of_workers = "recomind.config, recomind.training.trainer, recomind.serving.app"
    heavy = [
        "sklearn",
        "lightgbm",
        "onnx",
        "onnxruntime",
        "torchmetrics",
        "torch._dynamo",
        "torchrec",
    ]
    found = f"import sys, {rooms_of_workers}; print([n for n in {heavy} if n in sys.modules])"
    # What keeps torch's compiler out is in force for one import only.
    found += "; from torch.compiler import allow_in_graph as mark; assert 'allow' in mark.__name__"
    done = subprocess.run(
        [sys.executable, "-c", found], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_pyright_is_strict_where_contracts_are_defined_and_consumed() -> None:
    strict = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]["strict"]
    assert [name for name in strict if not (ROOT / name).exists()] == []  # silent in pyright
    assert {"recomind/types.py", "recomind/training/problem.py"} <= set(strict)
