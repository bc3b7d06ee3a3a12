"""What an artifact folder says of itself."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass, field
from typing import Any

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
