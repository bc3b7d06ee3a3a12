"""One finished run, shared by all tests that need its artifacts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.flow.commands import MICRO, NOT_RELEASED, recomind
from tests.flow.in_process import command as command


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all stages, seed 0; not to be written to."""
    working = tmp_path_factory.mktemp("finished")
    done = recomind("run", *MICRO, cwd=working)
    assert done.returncode in (0, NOT_RELEASED), done.stderr
    return working / "runs" / "tiny"


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be written to."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))
