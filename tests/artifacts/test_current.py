"""What a stage finds where it wants to write: kept, or written anew, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recomind.artifacts import MANIFEST, Manifest, write_artifact
from recomind.pipeline.stage import is_current


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
    before = Manifest(kind="thing", config={"collect": {"num_sessions": 5}})
    with write_artifact(tmp_path / "thing", before):
        pass
    for num, fresh, kept in [(5, 8000, True), (5, 9000, False), (6, 8000, False)]:
        settings = {"num_sessions": num, "fresh_sessions": fresh}
        wanted = Manifest(kind="thing", config={"collect": settings})
        assert is_current(tmp_path / "thing", wanted) is kept
    unknown = Manifest(kind="thing", config={"collect": {"num_sessions": 5, "new": 1}})
    assert not is_current(tmp_path / "thing", unknown)
