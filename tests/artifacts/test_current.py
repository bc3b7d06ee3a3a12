"""What a stage finds where it wants to write: kept, or written anew, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recomind.cli.context import is_current

from recomind.artifacts import MANIFEST, Manifest, write_artifact


def described() -> Manifest:
    return Manifest(kind="thing", seed=3, config={"a": {"b": 1}}, inputs={"ranker": "0"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with write_artifact(tmp_path / "thing", described()) as staging:
        (staging / "data.txt").write_text("content")
    return tmp_path / "thing"


def test_the_same_is_kept(folder: Path) -> None:
    assert is_current(folder, described())


def test_one_of_the_version_before_is_kept(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["digest"]
    (folder / MANIFEST).write_text(json.dumps(manifest | {"format_version": 1}))
    assert is_current(folder, described())


@pytest.mark.parametrize(
    "text", ["[" * 200_000 + "]" * 200_000, "[]", "{}", "", '{"files": []}', "\0"]
)
def test_a_manifest_of_another_shape_is_written_anew(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    assert not is_current(folder, described())


def test_files_as_a_list_are_written_anew(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"files": list(manifest["files"])}))
    assert not is_current(folder, described())


def test_settings_that_came_later_do_not_matter_at_their_defaults(tmp_path: Path) -> None:
    """A version with more settings goes on with the folders of the one before."""
    before = Manifest(kind="thing", config={"data": {"root": "a"}})
    with write_artifact(tmp_path / "thing", before):
        pass
    for root, more, kept in [("a", 24.0, True), ("a", 25.0, False), ("b", 24.0, False)]:
        settings = {"root": root, "session_gap_hours": more}
        wanted = Manifest(kind="thing", config={"data": settings})
        assert is_current(tmp_path / "thing", wanted) is kept
    unknown = Manifest(kind="thing", config={"data": {"root": "a", "new": 1}})
    assert not is_current(tmp_path / "thing", unknown)
