"""A fixture that runs `recomind.cli.main` here, where a process for each case would be too slow."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from recomind.cli import main

_ENVIRONMENT = {
    "HYDRA_FULL_ERROR": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What a command came to."""

    status: int
    out: str
    err: str


Command = Callable[..., Outcome]


@contextmanager
def working_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within this block a command runs in `folder`, and leaves logging as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["recomind"])
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    yield
    root.handlers[:], level = before
    root.setLevel(level)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """`command("evaluate", "experiment=tiny", ...)`, in an empty working folder."""

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        status = main(arguments)
        said = capsys.readouterr()
        return Outcome(status=status, out=said.out, err=said.err)

    working = tmp_path / "working"
    working.mkdir()
    with working_in(working, monkeypatch):
        yield run
