"""Training that cannot be: one clear line and status 2, before anything is simulated."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from recomind.artifacts import MANIFEST
from tests.flow.commands import MICRO
from tests.flow.conftest import folder as folder
from tests.flow.in_process import Command
from tests.sealing import reseal

HERE = "hydra.run.dir=runs/here"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["training.gamma=1"], "training.gamma; got: 1.0; expected: in [0, 1)"),
        (["training.gamma=-0.1"], "training.gamma; got: -0.1; expected: in [0, 1)"),
        (
            ["training.replay_capacity=1500", "training.batch_size=2000"],
            "training.batch_size; got: 2000; expected: <= replay_capacity 1500",
        ),
        (
            ["training.target_subset_size=25"],
            "training.target_subset_size; got: 25; expected: <= candidates.num_candidates, 24",
        ),
        (
            ["training.subset_size=30"],
            "training.subset_size; got: 30; expected: <= candidates.num_candidates, 24",
        ),
    ],
)
def test_settings_that_contradict_each_other(
    command: Command, settings: list[str], message: str
) -> None:
    outcome = command("train-policy", "experiment=tiny", *settings, HERE)
    assert (outcome.status, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not Path("runs/here/round_0").exists()


@pytest.fixture(scope="module")
def deaf_port() -> Iterator[int]:
    """A port that nobody listens at."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and never listened to: connections are refused
        yield held.getsockname()[1]


def again(folder: Path) -> None:
    """Let the finished run lack its policy, so that it has to be trained."""
    for path in (folder / "round_0" / "policy").iterdir():
        path.unlink()
    (folder / "round_0" / "policy").rmdir()


def refused(command: Command, folder: Path, *settings: str) -> str:
    outcome = command("train-policy", *MICRO, *settings, f"hydra.run.dir={folder}")
    assert outcome.status == 2
    assert not (folder / "round_0" / "policy").exists()
    assert "Traceback" not in outcome.err
    return outcome.err.splitlines()[-1]


@pytest.mark.slow
def test_more_processes_than_cpus(command: Command, folder: Path) -> None:
    again(folder)
    many = ("training.num_runners=900", "training.replay_capacity=1000000")
    line = refused(command, folder, *many)
    assert "training.num_runners + training.num_learners; got: 900; expected: <= " in line


@pytest.mark.slow
def test_no_head_at_the_address(command: Command, folder: Path, deaf_port: int) -> None:
    again(folder)
    line = refused(command, folder, f"training.ray_address=127.0.0.1:{deaf_port}")
    assert f"no Ray head answers at training.ray_address; got: 127.0.0.1:{deaf_port}: " in line
    line = refused(command, folder, "training.ray_address=somewhere")
    assert "training.ray_address; got: somewhere; expected: host:port" in line


@pytest.mark.slow
def test_checkpoints_of_another_version_and_catalogue(command: Command, folder: Path) -> None:
    again(folder)
    done = command("train-policy", *MICRO, f"hydra.run.dir={folder}")  # a whole run keeps none
    assert done.status == 0
    again(folder)
    newest = max((folder / "round_0" / "checkpoints").glob("iteration-*"))

    written = (newest / MANIFEST).read_text()
    reseal(newest, lambda manifest: setattr(manifest, "format_version", 99))
    assert "the checkpoint has another format version; got: 99 in " in refused(command, folder)

    (newest / MANIFEST).write_text(written)
    reseal(newest, lambda manifest: manifest.inputs.update(catalogue="0" * 64))
    assert "the checkpoints here were written with another catalogue; got: " in refused(
        command, folder
    )
