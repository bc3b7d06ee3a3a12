"""A finished run that a test may write to, and a command that runs here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.flow.in_process import command as command


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be written to."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))
