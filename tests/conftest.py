"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import absl.logging
import pytest
import torch
from xdist.scheduler import LoadFileScheduling

from recomind.cli import main
from tests.flow.commands import MICRO, NOT_RELEASED
from tests.flow.in_process import working_in
from tests.once import made_once
from tests.preloaded.launching import ADDRESS, server

torch.set_num_threads(1)

_NAME = "kuairand-pure"
_BESIDE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def kuairand_root() -> Path:
    """The folder of KuaiRand-Pure, or a skip: the data is not part of this project."""
    given = Path(os.environ.get("RECOMIND_DATA") or _BESIDE_CHECKOUT)
    for folder in (given, given / _NAME):
        if (folder / "user_features_pure.csv").is_file():
            return folder
    pytest.skip(f"no KuaiRand-Pure in {given}; set RECOMIND_DATA to its folder or its parent")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One small local Ray for all tests that need one."""
    import ray

    from recomind.local_ray import start_ray

    start_ray(3)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all stages, seed 0; not to be written to."""

    def run(working: Path) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch, working_in(working, monkeypatch):
            assert main(["run", *MICRO]) in (0, NOT_RELEASED)

    return made_once(tmp_path_factory, "finished", run) / "runs" / "tiny"


def pytest_configure(config: pytest.Config) -> None:
    """One process to start programs from, for all workers; its imports are made beside theirs."""
    if config.getoption("numprocesses", default=None):
        os.environ[ADDRESS] = server()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left with one at the end."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    ranks = {path: _rank(inside) for path, inside in files.items()}
    items.sort(key=lambda item: ranks[item.path])


def _rank(items: list[pytest.Item]) -> int:
    marks = {mark.name for item in items for mark in item.iter_markers()}
    return next((at for at, name in enumerate(("own_ray", "page", "slow")) if name in marks), 3)


class _Files(LoadFileScheduling):
    """Gives a worker one file after another; those with `own_ray` in them are as one file.

    Ray has 30 s for a start, which is too little where several start at once.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        path = Path(__file__).parents[1] / file
        return "own_ray" if "pytest.mark.own_ray" in path.read_text() else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Files:
    """How xdist shares the tests out."""
    return _Files(config, log)


def pytest_collection_finish() -> None:
    """Keep absl's log handler, made while importing, from closing pytest's captured stream.

    Hydra closes all log handlers when it configures logging, and absl's closes its stream with it
    unless that is one of the process's own.
    """
    absl.logging.get_absl_handler().python_handler.setStream(sys.__stderr__)
