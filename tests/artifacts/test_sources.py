"""Raw files that a stage reads have an identity, so that changed ones are read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recomind.artifacts import source_identity
from recomind.errors import ArtifactError


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_bytes(b"user,item\n" + bytes(range(256)) * 4096)
    return path


def kept_time(path: Path, content: bytes) -> None:
    """Change a file and give it back its time."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_same_files_are_the_same(log: Path) -> None:
    assert source_identity([log]) == source_identity([log])
    assert list(source_identity([log])) == ["source/log.csv"]


@pytest.mark.parametrize("full", [False, True])
def test_other_content_under_the_same_name_is_another(log: Path, full: bool) -> None:
    before = source_identity([log], full=full)
    log.write_bytes(log.read_bytes()[:-1] + b"x")
    assert source_identity([log], full=full) != before


def test_content_at_the_edges_counts_whatever_the_time(log: Path) -> None:
    before = source_identity([log])
    kept_time(log, b"USER" + log.read_bytes()[4:])
    assert source_identity([log]) != before


def test_a_new_time_alone_counts_only_without_the_full_hash(log: Path) -> None:
    sample, full = source_identity([log]), source_identity([log], full=True)
    os.utime(log, (1, 1))
    assert source_identity([log]) != sample
    assert source_identity([log], full=True) == full


def test_only_the_full_hash_sees_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_bytes(bytes(64 * 2**20))
    sample, full = source_identity([path]), source_identity([path], full=True)
    content = bytearray(64 * 2**20)
    content[2**20 + 12_345] = 1
    kept_time(path, bytes(content))
    assert source_identity([path], full=True) != full
    assert source_identity([path]) == sample


def test_files_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.csv").write_text(name)
    found = source_identity([tmp_path / "a" / "log.csv", tmp_path / "b" / "log.csv"])
    assert list(found) == ["source/a/log.csv", "source/b/log.csv"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone\.csv"):
        source_identity([tmp_path / "gone.csv"])
