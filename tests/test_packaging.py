"""A wheel works where the checkout is not."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCK_LINE = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+")

COMPOSE_ALL = """
import sys
from pathlib import Path
from hydra import compose, initialize_config_dir
import recomind, simulators
from recomind import config

environment = Path(sys.prefix).resolve()
for package in (recomind, simulators):
    assert Path(package.__file__).resolve().is_relative_to(environment), package.__file__
folder = config.conf_dir().resolve()
assert folder.is_relative_to(environment), folder

config.register()
presets = sorted(path.stem for path in folder.glob("experiment/*.yaml"))
with initialize_config_dir(str(folder), version_base="1.3"):
    compose("base")
    for preset in presets:
        compose("base", overrides=[f"experiment={preset}"])
        print("preset", preset)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command; its standard error is shown where it fails."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=outside,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def configurations(folder: Path) -> set[str]:
    """Relative paths of the YAML files that belong to the project."""
    paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")}
    return {path for path in paths if not path.startswith("local/")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as an index would."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in (".gitignore", "pyproject.toml", "README.md", "LICENSE", "requirements.lock"):
        shutil.copy(ROOT / name, source)
    for name in ("recomind", "simulators", "conf"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    (source / "conf/local").mkdir(exist_ok=True)
    (source / "conf/local/mine.yaml").write_text("password: mine\n")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", built, cwd=source)
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and our dependencies, and without the checkout."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=False)
    # Nested .pth files are not followed, so the editable install of the checkout stays out.
    site = folder / f"lib/python{sysconfig.get_python_version()}/site-packages"
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # Not `pip --python`: this pip runs in the new environment and sees only that one's packages.
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps"]
    run(*pip, "--no-index", "--ignore-installed", wheel, cwd=folder)
    return folder


def test_the_wheel_carries_configuration_and_worlds(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"recomind/__init__.py", "simulators/__init__.py"} <= names
    assert not {name for name in names if name.split("/")[0] in {"tests", "docs", "conf"}}
    carried = {name.removeprefix("recomind/conf/") for name in names if name.endswith(".yaml")}
    assert carried == configurations(ROOT / "conf")


def test_local_configuration_stays_at_home(wheel: Path) -> None:
    assert [name for name in zipfile.ZipFile(wheel).namelist() if "local/" in name] == []


def test_the_command_runs_outside_the_checkout(environment: Path, tmp_path: Path) -> None:
    text = run(environment / "bin/recomind", "--help", cwd=tmp_path)
    for stage in ("collect-logs", "train-ranker", "train-policy", "evaluate", "export", "run"):
        assert stage in text


def test_every_configuration_composes_outside_the_checkout(
    environment: Path, tmp_path: Path
) -> None:
    text = run(environment / "bin/python", "-c", COMPOSE_ALL, cwd=tmp_path)
    composed = set(text.splitlines())
    expected = {f"preset {path.stem}" for path in (ROOT / "conf/experiment").glob("*.yaml")}
    assert composed == expected
    assert "preset demo" in composed


def test_the_lock_pins_every_dependency_and_no_place() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not LOCK_LINE.fullmatch(pin)] == []
    pinned = {canonical(pin.split("==")[0]) for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *itertools.chain.from_iterable(extras)]
    names = {canonical(re.split(r"[\[<>=]", requirement)[0]) for requirement in wanted}
    assert names <= pinned


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
