"""A disk without room: one line, the last good state as it was, and the same call goes on."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import polars as pl
import pytest
import torch

from recomind.artifacts import (
    Manifest,
    is_disk_full,
    read_manifest,
    save_tensors,
    write_artifact,
    write_json,
)
from recomind.errors import ArtifactError, DiskFullError
from tests.faults.test_checkpoints import file_size_limit
from tests.flow.commands import recomind

LIMIT = 20_000


def tensors(folder: Path) -> None:
    save_tensors(folder / "a.safetensors", {"w": torch.zeros(10_000)})


def parquet(folder: Path) -> None:
    numbers = np.random.default_rng(0).standard_normal(10_000)
    pl.DataFrame({"x": numbers}).write_parquet(folder / "a.parquet")


def array(folder: Path) -> None:
    np.save(folder / "a.npy", np.zeros(10_000))


def index(folder: Path) -> None:
    made = faiss.IndexFlatIP(8)
    made.add(np.zeros((1_000, 8), dtype=np.float32))  # type: ignore
    faiss.write_index(made, str(folder / "a.faiss"))


def text(folder: Path) -> None:
    (folder / "a.txt").write_text("x" * 100_000)


def json(folder: Path) -> None:
    write_json(folder / "a.json", ["x" * 100_000])


@pytest.mark.parametrize("write", [tensors, parquet, array, index, text, json])
def test_a_full_disk_leaves_the_last_artifact(tmp_path: Path, write: Callable) -> None:
    folder = tmp_path / "thing"
    with write_artifact(folder, Manifest(kind="thing", seed=1)) as staging:
        (staging / "small.txt").write_text("small")
    with (
        pytest.raises(DiskFullError, match=r"no room .*thing.*to mend: .*the same command"),
        file_size_limit(LIMIT),
        write_artifact(folder, Manifest(kind="thing", seed=2)) as staging,
    ):
        write(staging)
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]
    assert read_manifest(folder).seed == 1
    with write_artifact(folder, Manifest(kind="thing", seed=2)) as staging:
        write(staging)
    assert read_manifest(folder).seed == 2


def test_json_alone_leaves_what_was_there(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(DiskFullError), file_size_limit(LIMIT):
        write_json(tmp_path / "a.json", ["x" * 100_000])
    assert (tmp_path / "a.json").read_text() == "[\n  1\n]\n"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (RuntimeError("write failed: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("a value"), False),
    ],
)
def test_what_a_full_disk_sounds_like(error: Exception, full: bool) -> None:
    assert is_disk_full(error) is full
    chained = ArtifactError("outer")
    chained.__cause__ = error
    assert is_disk_full(chained) is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
def test_a_run_on_a_full_disk_says_so_in_one_line(small_disk: Path, tmp_path: Path) -> None:
    done = recomind("run", "experiment=tiny", f"output={small_disk}/x", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if "Traceback" in line or "error" in line]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: no room")
    assert "the same command goes on" in errors[0]
    assert not list((small_disk / "x").rglob("*.tmp"))
