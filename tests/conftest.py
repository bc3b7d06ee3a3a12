"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import absl.logging
import pytest
import torch

from recomind.cli import main
from tests.flow.commands import MICRO, NOT_RELEASED
from tests.flow.in_process import working_in

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
    working = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch, working_in(working, monkeypatch):
        assert main(["run", *MICRO]) in (0, NOT_RELEASED)
    return working / "runs" / "tiny"


def pytest_collection_finish() -> None:
    """Keep absl's log handler, made while importing, from closing pytest's captured stream.

    Hydra closes all log handlers when it configures logging, and absl's closes its stream with it
    unless that is one of the process's own.
    """
    absl.logging.get_absl_handler().python_handler.setStream(sys.__stderr__)
