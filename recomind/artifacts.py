"""A stage's result on disk: a folder with `manifest.json` beside its data.

A folder is written under a temporary name and renamed, and the manifest, which carries the
hash of every file, is written last: half an artifact never exists, and an artifact that is
read back is the one that was written. Nothing that is loaded is a pickle.
"""

from __future__ import annotations

import dataclasses
import enum
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from recomind.aliases import as_today
from recomind.errors import ArtifactError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_PACKAGES = ("recomind", "torch", "ray", "polars", "hydra-core", "numpy")


@dataclass(kw_only=True)
class Manifest:
    """What an artifact folder says of itself."""

    kind: str  # "sessions", "ranker", "simulator", "policy", ...
    format_version: int = FORMAT_VERSION
    seed: int = 0
    config: dict[str, Any] = field(default_factory=dict)  # resolved, of the stage that wrote it
    inputs: dict[str, str] = field(default_factory=dict)  # name -> identity of an input artifact
    metrics: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)  # what the kind needs to be read back
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # relative path -> sha256

    @property
    def identity(self) -> str:
        """Sha256 over kind, extra and the files' hashes; equal content, equal identity."""
        body = json.dumps([self.kind, self.format_version, self.extra, self.files], sort_keys=True)
        return hashlib.sha256(body.encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Installed versions of the packages whose numerics matter."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def write_artifact(folder: Path, manifest: Manifest) -> Iterator[Path]:
    """Yield a temporary folder to fill; on success it becomes `folder`, on error it vanishes.

    An earlier artifact at `folder` is replaced only once the new one is whole.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # What a killed writer left; a run's folder has one writer at a time.
    for stale in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(stale, ignore_errors=True)
    staging = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp"
    staging.mkdir()
    try:
        yield staging
        paths = sorted(p for p in staging.rglob("*") if p.is_file())
        manifest.files = {p.relative_to(staging).as_posix(): file_sha256(p) for p in paths}
        manifest.versions = package_versions()
        write_json(staging / MANIFEST, dataclasses.asdict(manifest))
        _swap(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


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


@contextmanager
def holding(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the file `lock`; the system frees that of one that dies."""
    with Path(lock).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Be the one process that writes into `folder`, which is made where it is not there.

    The folder itself is locked: that leaves no file behind, and the system frees it with the
    process, however that ends. Where a file system cannot lock a folder (NFS), nobody is kept out.

    Raises:
        ArtifactError: another process writes there, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ArtifactError(
            "no folder to write into",
            got=f"{folder}: {error.strerror}",
            mend="choose another with output=...",
        ) from error
    try:
        _lock_now(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock_now(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ArtifactError(
            "another command is at work in this folder",
            got=folder,
            mend="wait until it has ended, or choose another folder with output=...",
        ) from error
    except OSError:  # no such locks here
        return


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a whole artifact (its manifest is written last)."""
    return (Path(folder) / MANIFEST).is_file()


def read_manifest(folder: Path, kind: str | None = None, *, verify: bool = True) -> Manifest:
    """Read and check an artifact.

    Raises:
        ArtifactError: no manifest, another kind or format version, or a file that differs
            from its recorded hash.
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
    try:
        manifest = Manifest(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ArtifactError("unreadable manifest", got=f"{path}: {error}") from error
    manifest.config = as_today(manifest.config)
    if manifest.format_version != FORMAT_VERSION:
        raise ArtifactError(
            "artifact of another format version",
            got=f"{manifest.format_version} in {folder}",
            expected=FORMAT_VERSION,
            mend="write it anew with this version",
        )
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(
            "artifact of another kind", got=f"{manifest.kind} in {folder}", expected=kind
        )
    if verify:
        _verify_files(folder, manifest)
    return manifest


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


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically; NaN is refused, it is not JSON."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with staging.open("w") as file:
        json.dump(value, file, indent=2, sort_keys=True, allow_nan=False, default=_plain)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)


def _plain(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors; where several are one memory, each is written whole."""
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().contiguous()
        storage = plain.untyped_storage().data_ptr()
        own[name] = plain.clone() if storage in seen else plain
        seen.add(storage)
    safetensors.torch.save_file(own, path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors.

    Raises:
        ArtifactError: the file is absent or is not safetensors.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ArtifactError("unreadable tensor file", got=f"{path}: {error}") from error
