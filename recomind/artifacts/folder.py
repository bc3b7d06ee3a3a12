"""A stage's result on disk: a folder with `manifest.json` beside its data.

A folder is written under a temporary name and renamed, and the manifest, which carries the
hash of every file, is written last: half an artifact never exists, and an artifact that is
read back is the one that was written. Nothing that is loaded is a pickle.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recomind.aliases import as_today
from recomind.artifacts.checked_reading import brief
from recomind.artifacts.disk import room_for
from recomind.artifacts.json_files import read_json, write_json
from recomind.artifacts.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    READABLE_VERSIONS,
    Manifest,
    manifest_from,
    package_versions,
)
from recomind.errors import ArtifactError

_ANEW = "run the stage that writes it again; `recomind run` does so by itself"


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def write_artifact(folder: Path, manifest: Manifest) -> Iterator[Path]:
    """Yield a temporary folder to fill; on success it becomes `folder`, on error it vanishes.

    An earlier artifact at `folder` is replaced only once the new one is whole.

    Raises:
        DiskFullError: there is no room; an earlier artifact stays as it is.
    """
    folder = Path(folder)
    with room_for(folder):
        staging = _new_staging(folder)
        try:
            yield staging
            _seal(staging, manifest)
            _swap(staging, folder)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def _new_staging(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # What a killed writer left; a run's folder has one writer at a time.
    for ending in ("tmp", "old"):
        for stale in folder.parent.glob(f".{folder.name}.*.{ending}"):
            shutil.rmtree(stale, ignore_errors=True)
    staging = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp"
    staging.mkdir()
    return staging


def _seal(staging: Path, manifest: Manifest) -> None:
    """Flush what was written, and write the manifest with the hashes of it."""
    paths = sorted(p for p in staging.rglob("*") if p.is_file())
    for path in paths:
        with path.open("rb") as file:  # a full disk may only show when it is flushed
            os.fsync(file.fileno())
    manifest.files = {p.relative_to(staging).as_posix(): file_sha256(p) for p in paths}
    manifest.versions, manifest.format_version = package_versions(), FORMAT_VERSION
    manifest.digest = (sealed := manifest.sealed())["digest"]
    write_json(staging / MANIFEST, sealed)


def _swap(staging: Path, folder: Path) -> None:
    old = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.old"
    if folder.exists():
        folder.rename(old)
    staging.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a whole artifact (its manifest is written last)."""
    return (Path(folder) / MANIFEST).is_file()


def read_manifest(folder: Path, kind: str | None = None, *, verify: bool = True) -> Manifest:
    """Read and check an artifact.

    Raises:
        ArtifactError: no manifest or one that was changed, another kind or format version, a
            file that differs from its recorded hash, or one that the manifest does not list.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"no {kind or 'artifact'} here",
            got=folder,
            expected=f"a folder with {MANIFEST}",
            mend="run the stage that writes it first, or point to another folder",
        )
    values = read_json(path, "manifest", _ANEW)
    _require_version(values, folder)
    try:
        manifest = manifest_from(values)
    except ValueError as error:
        got = f"{path}: {brief(error)}"
        raise ArtifactError("unreadable manifest", got=got, mend=_ANEW) from error
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(
            "artifact of another kind", got=f"{manifest.kind} in {folder}", expected=kind
        )
    if verify:
        _verify_files(folder, manifest)
    manifest.config = as_today(manifest.config)
    return manifest


def _require_version(values: Any, folder: Path) -> None:
    found = values.get("format_version") if isinstance(values, dict) else None
    if isinstance(found, int) and found not in READABLE_VERSIONS:
        raise ArtifactError(
            "artifact of another format version",
            got=f"{found} in {folder}",
            expected=f"one of {', '.join(map(str, READABLE_VERSIONS))}",
            mend="write it anew with this version, or read it with the version that wrote it",
        )


def _verify_files(folder: Path, manifest: Manifest) -> None:
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ArtifactError("a manifest may not name files outside its folder", got=name)
        if not path.is_file() or file_sha256(path) != digest:
            raise ArtifactError(
                "damaged artifact: a file is absent or differs from its recorded hash",
                got=path,
                mend=f"remove {folder} and run its stage again",
            )
    _refuse_unlisted(folder, manifest)


def _refuse_unlisted(folder: Path, manifest: Manifest) -> None:
    """What the manifest does not list has no hash, and a loader might obey it."""
    listed = {MANIFEST, *manifest.files}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)  # no loader reads such names
        if path.is_file() and not hidden and name.as_posix() not in listed:
            raise ArtifactError(
                "an artifact holds a file that its manifest does not list",
                got=path,
                mend="move the file elsewhere, or run the stage of the artifact again",
            )
