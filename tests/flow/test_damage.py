"""Damaged artifacts and folders of other runs: refused in one line, or written anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flow.commands import MICRO, NOT_RELEASED, read_report
from tests.flow.in_process import Command


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def forget(folder: Path, name: str) -> None:
    """Make an artifact look as if it had not been written."""
    for path in (folder / name).iterdir():
        path.unlink()
    (folder / name).rmdir()


@pytest.mark.parametrize(
    ("stage", "output", "damaged"),
    [
        ("train-ranker", "round_0/ranker", "round_0/sessions/sessions.parquet"),
        ("build-index", "round_0/index", "round_0/sessions/catalogue.safetensors"),
        ("fit-simulator", "round_0/simulator", "round_0/ranker/member_1.safetensors"),
        ("train-policy", "round_0/policy", "round_0/simulator/starts.safetensors"),
        ("evaluate", "report", "round_0/policy/policy.safetensors"),
        ("evaluate", "report", "round_0/holdout_simulator/watch_10s.lightgbm.txt"),
        ("evaluate", "report", "round_0/index/index.faiss"),
        ("export", "export", "report/report.json"),
    ],
)
def test_a_damaged_input_is_refused(
    command: Command, folder: Path, stage: str, output: str, damaged: str
) -> None:
    forget(folder, output)
    flip(folder / damaged)
    outcome = command(stage, *MICRO, f"hydra.run.dir={folder}")
    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: damaged artifact")
    assert damaged.rpartition("/")[2] in line
    assert not (folder / output).exists()


def test_a_manifest_that_is_not_json_is_refused(command: Command, folder: Path) -> None:
    forget(folder, "report")
    (folder / "round_0" / "ranker" / "manifest.json").write_text('{"kind": "ran')
    outcome = command("evaluate", *MICRO, f"hydra.run.dir={folder}")
    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: unreadable manifest; got: ")
    assert not (folder / "report").exists()


def test_run_writes_a_damaged_artifact_anew(command: Command, folder: Path, finished: Path) -> None:
    flip(folder / "round_0" / "ranker" / "member_0.safetensors")
    outcome = command("run", *MICRO, f"hydra.run.dir={folder}")
    assert outcome.status in (0, NOT_RELEASED), outcome.err
    assert "train-ranker: done" in outcome.err
    assert "fit-simulator: kept from before" in outcome.err  # the new one is the old one
    assert read_report(folder) == read_report(finished)


def test_the_folder_of_another_run_is_refused(command: Command, folder: Path) -> None:
    outcome = command(
        "run", *MICRO, "seed=1", "policy.support_ratio=0.5", f"hydra.run.dir={folder}"
    )
    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: the output folder holds another run; got: ")
    assert "['policy.support_ratio', 'seed', 'training.support_ratio']" in line
    assert read_report(folder)["seed"] == 0
    assert json.loads((folder / "run.json").read_text())["seed"] == 0
