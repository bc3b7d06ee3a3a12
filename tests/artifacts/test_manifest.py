"""A manifest protects itself, and whatever its folder holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recomind.artifacts import MANIFEST, Manifest, read_manifest, write_artifact
from recomind.errors import ArtifactError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = Manifest(kind="thing", seed=3, extra={"released": False}, metrics={"auc": 0.5})
    with write_artifact(tmp_path / "thing", made) as staging:
        (staging / "data.txt").write_text("content")
        (staging / "below").mkdir()
        (staging / "below" / "more.txt").write_text("more")
    return tmp_path / "thing"


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest by hand, as nobody should."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_what_was_written_is_read(folder: Path) -> None:
    manifest = read_manifest(folder, "thing")
    assert (manifest.seed, manifest.extra, manifest.metrics) == (
        3,
        {"released": False},
        {"auc": 0.5},
    )
    assert set(manifest.files) == {"data.txt", "below/more.txt"}


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(files={}),
        lambda m: m["files"].pop("data.txt"),
        lambda m: m["extra"].update(released=True),
        lambda m: m["metrics"].update(auc=0.9),
        lambda m: m.update(seed=4),
        lambda m: m["config"].update(more=1),
        lambda m: m["inputs"].update(ranker="0" * 64),
        lambda m: m["versions"].update(torch="0"),
        lambda m: m.update(digest="0" * 64),
        lambda m: m.pop("digest"),
    ],
)
def test_a_manifest_changed_by_hand_is_refused(folder: Path, change: Callable) -> None:
    edit(folder, change)
    with pytest.raises(ArtifactError, match="manifest"):
        read_manifest(folder, "thing")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(files=list(m["files"])),
        lambda m: m.update(files={"data.txt": 7}),
        lambda m: m.update(extra=[]),
        lambda m: m.update(seed="0"),
        lambda m: m.update(seed=True),
        lambda m: m.update(metrics={"auc": "high"}),
        lambda m: m.update(inputs={"ranker": 1}),
        lambda m: m.update(kind=None),
        lambda m: m.update(format_version="1"),
        lambda m: m.update(unknown=1),
        lambda m: m.pop("inputs"),
        lambda m: m["files"].update({"/etc/hostname": "0" * 64}),
        lambda m: m["files"].update({"../data.txt": "0" * 64}),
    ],
)
def test_a_manifest_of_another_shape_is_refused(folder: Path, change: Callable) -> None:
    edit(folder, change)
    with pytest.raises(ArtifactError, match=r"manifest|format version"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000 + "]" * 200_000,
        '{"a":' * 500 + "1" + "}" * 500,
        "[]",
        "7",
        "",
        '{"kind": "thing", "seed": NaN}',
        "\ufeff{}",
        '{"kind": "' + "9" * 100,
        '{"seed": ' + "9" * 5000 + "}",
    ],
)
def test_text_that_is_no_manifest_is_refused_in_few_words(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match="unreadable manifest") as refused:
        read_manifest(folder)
    assert len(str(refused.value)) < 700


def test_bytes_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b'{"kind": "\xff\xfe"}')
    with pytest.raises(ArtifactError, match="unreadable manifest"):
        read_manifest(folder)


def test_a_key_that_comes_twice_is_refused(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.rstrip()[:-1] + ', "files": {}}')
    with pytest.raises(ArtifactError, match=r"twice.*files"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["catalogue_store.json", "below/other.txt"])
def test_a_file_that_is_not_listed_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    with pytest.raises(ArtifactError, match="does not list") as refused:
        read_manifest(folder)
    assert name in str(refused.value)


def test_hidden_files_of_the_system_do_not_matter(folder: Path) -> None:
    (folder / ".DS_Store").write_text("")
    assert read_manifest(folder).kind == "thing"


def test_a_link_that_leads_out_is_refused(folder: Path) -> None:
    (folder.parent / "elsewhere.txt").write_text("content")
    (folder / "data.txt").unlink()
    (folder / "data.txt").symlink_to(folder.parent / "elsewhere.txt")
    with pytest.raises(ArtifactError, match="outside its folder"):
        read_manifest(folder)


def test_whoever_refers_to_an_artifact_names_all_that_is_obeyed(tmp_path: Path) -> None:
    def identity(**changes: Any) -> str:
        with write_artifact(tmp_path / "thing", Manifest(kind="thing", **changes)) as staging:
            (staging / "data.txt").write_text("content")
        return read_manifest(tmp_path / "thing").identity

    changes: list[dict[str, Any]] = [
        {},
        {"extra": {"released": True}},
        {"config": {"seed": 1}},
        {"metrics": {"auc": 0.5}},
        {"inputs": {"ranker": "0"}},
        {"seed": 1},
    ]
    assert identity() == identity()
    assert len({identity(**change) for change in changes}) == len(changes)


def test_the_identity_is_the_same_before_and_after_the_disk(tmp_path: Path) -> None:
    config: dict[str, Any] = {"t": (1, 2), "p": Path("a"), "n": {i: i for i in range(12)}}
    manifest = Manifest(kind="thing", config=config)
    with write_artifact(tmp_path / "thing", manifest):
        pass
    assert manifest.identity == read_manifest(tmp_path / "thing").identity


def before(folder: Path) -> None:
    """Give a manifest the shape of the version before: no digest of its own."""
    edit(folder, lambda m: (m.pop("digest"), m.update(format_version=1)))


def test_an_artifact_of_the_version_before_is_read_and_keeps_its_identity(folder: Path) -> None:
    before(folder)
    manifest = read_manifest(folder, "thing")
    body = json.dumps(["thing", 1, manifest.extra, manifest.files], sort_keys=True)
    assert manifest.identity == hashlib.sha256(body.encode()).hexdigest()
    (folder / "data.txt").write_text("other")
    with pytest.raises(ArtifactError, match="damaged artifact"):
        read_manifest(folder, "thing")


def test_an_artifact_of_a_later_version_says_what_to_do(folder: Path) -> None:
    edit(folder, lambda m: m.update(format_version=3))
    with pytest.raises(ArtifactError, match=r"another format version; got: 3 .*to mend: "):
        read_manifest(folder)
