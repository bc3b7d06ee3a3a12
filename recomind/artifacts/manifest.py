"""What an artifact folder says of itself, and how far that can be relied upon.

A manifest carries the hash of every file beside it, and its own: a change of either is seen.
Whoever refers to an artifact keeps its `identity`, which covers all that is obeyed. That is
integrity; who wrote an artifact is another question, see SECURITY.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from recomind.artifacts.json_files import plain

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)  # 1 has no digest of its own
MANIFEST = "manifest.json"
_PACKAGES = ("recomind", "torch", "ray", "polars", "hydra-core", "numpy")
_SHA256 = re.compile("[0-9a-f]{64}")


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
    digest: str = ""  # sha256 over all of the above; empty in format version 1

    @property
    def identity(self) -> str:
        """Sha256 over all but package versions; equal content, equal identity."""
        if self.format_version == 1:
            return _sha256([self.kind, self.format_version, self.extra, self.files])
        content = self.content()
        del content["versions"]
        return _sha256(content)

    def content(self) -> dict[str, Any]:
        """The manifest as JSON values, without its digest."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del values["digest"]
        return json.loads(json.dumps(values, allow_nan=False, default=plain))

    def sealed(self) -> dict[str, Any]:
        """The manifest as JSON values, with a digest of what it says now."""
        content = self.content()
        return content | {"digest": _sha256(content)}


def _sha256(value: object) -> str:
    body = json.dumps(value, sort_keys=True, default=plain)
    return hashlib.sha256(body.encode()).hexdigest()


def manifest_from(values: Any) -> Manifest:
    """The manifest of parsed JSON, of a format version that can be read.

    Raises:
        ValueError: other keys or types than a manifest's, or a digest that is not its own.
    """
    _require(isinstance(values, dict), f"a {type(values).__name__}, no object")
    names = set(_CHECKS) | ({"digest"} if values.get("format_version") != 1 else set())
    _require(set(values) == names, f"other keys than a manifest's: {sorted(set(values) ^ names)}")
    for name, holds in _CHECKS.items():
        _require(holds(values[name]), f"{name!r} is not what a manifest may say there")
    manifest = Manifest(**values)
    if manifest.format_version != 1:
        _require(manifest.digest == _sha256(manifest.content()), "it was changed by hand")
    return manifest


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _object_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda values: isinstance(values, dict) and all(map(holds, values.values()))


def _is_inside(name: str) -> bool:
    """Whether a name is that of a file in the folder or below it."""
    parts = PurePosixPath(name).parts
    plain_name = bool(parts) and PurePosixPath(*parts).as_posix() == name and "\0" not in name
    return plain_name and not name.startswith("/") and ".." not in parts and name != MANIFEST


def _are_files(files: Any) -> bool:
    hashes = isinstance(files, dict) and all(isinstance(v, str) for v in files.values())
    return hashes and all(_is_inside(n) and _SHA256.fullmatch(h) for n, h in files.items())


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "kind": _is_text,
    "format_version": _is_whole,
    "seed": _is_whole,
    "config": _is_object,
    "inputs": _object_of(_is_text),
    "metrics": _object_of(_is_number),
    "extra": _is_object,
    "versions": _object_of(_is_text),
    "files": _are_files,
}


def package_versions() -> dict[str, str]:
    """Installed versions of the packages whose numerics matter."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
