"""Manifests that were changed on purpose, with hashes that fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recomind.artifacts import MANIFEST, Manifest, file_sha256, read_manifest, write_json


def reseal(folder: Path, change: Callable[[Manifest], Any] = lambda manifest: None) -> None:
    """Change the manifest in `folder`, and record the hashes of the files as they are now."""
    manifest = read_manifest(folder, verify=False)
    manifest.files = {name: file_sha256(folder / name) for name in manifest.files}
    change(manifest)
    write_json(folder / MANIFEST, manifest.sealed())
