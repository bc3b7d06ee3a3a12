"""Columns and versions of a catalogue store, and their files.

Symbols: `F` dense features, `C` categorical features, `E` length of an embedding.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from recomind.artifacts import loads, read_json
from recomind.errors import ArtifactError, ConfigError

FORMAT, CURRENT, VERSIONS = "format.json", "CURRENT.json", "versions"
ITEMS, CHANGED, WITHDRAWN = "items", "changed", "withdrawn"
FORMAT_VERSION = 1
_NARROW_CODES, _MOST_CODES = 2**31, 2**63 - 1  # a vocabulary's codes that int32 and int64 can keep


class EmbeddingKind(Enum):
    """How a number of an embedding is kept; lower case, as other settings are."""

    float16 = "float16"
    int8 = "int8"  # in units of the row's largest number over 127


@dataclass(kw_only=True, slots=True)
class StoreFormat:
    """The columns of a catalogue store."""

    dense_names: list[str]  # F
    categorical_names: list[str]  # C
    vocab_sizes: list[int]  # C
    embedding_dim: int = 0  # E; 0 for none
    embedding: EmbeddingKind = EmbeddingKind.float16  # how they are kept

    def __post_init__(self) -> None:
        self.embedding = EmbeddingKind(self.embedding)
        if len(self.categorical_names) != len(self.vocab_sizes):
            raise ConfigError(
                "one vocabulary a categorical feature",
                got=f"{len(self.vocab_sizes)} sizes",
                expected=len(self.categorical_names),
            )
        if max(self.vocab_sizes, default=0) > _MOST_CODES:
            raise ConfigError(
                "a vocabulary larger than any code",
                got=max(self.vocab_sizes),
                expected=f"at most {_MOST_CODES}",
                mend="hash the values into fewer codes",
            )
        if self.embedding_dim < 0 or min(self.vocab_sizes, default=1) < 1:
            raise ConfigError(
                "a size is not positive", got=f"{self.embedding_dim}, {self.vocab_sizes}"
            )

    def columns(self, part: str) -> dict[str, tuple[str, int]]:
        """Type and width of every column of "items", "changed" or "withdrawn"."""
        if part == WITHDRAWN:
            return {"item_id": ("<i8", 1)}
        wide = max(self.vocab_sizes, default=0) > _NARROW_CODES
        found = {
            "dense": ("<f4", len(self.dense_names)),
            "categorical": ("<i8" if wide else "<i4", len(self.categorical_names)),
        }
        if self.embedding_dim:
            narrow = self.embedding is EmbeddingKind.int8
            found["embedding"] = ("<i1" if narrow else "<f2", self.embedding_dim)
            if narrow:
                found["scale"] = ("<f4", 1)
        return found | ({"item_id": ("<i8", 1)} if part == CHANGED else {})


@dataclass(kw_only=True, slots=True)
class StoreVersion:
    """How many rows of each part a version has."""

    version: int
    items: int = 0
    changed: int = 0
    withdrawn: int = 0

    def __post_init__(self) -> None:
        for value in (self.version, self.items, self.changed, self.withdrawn):
            if type(value) is not int or not 0 <= value < 2**48:
                raise ArtifactError("unreadable catalogue", got=f"{value!r} as a number of rows")

    def rows(self, part: str) -> int:
        """The file of "items", "changed" or "withdrawn"."""
        return int(getattr(self, part))


def column_path(folder: Path, part: str, name: str) -> Path:
    """The file of a column."""
    return folder / part / f"{name}.bin"


def version_path(folder: Path, version: int) -> Path:
    """The file of a version."""
    return folder / VERSIONS / f"{version:08d}.json"


@loads("catalogue")
def read_version(folder: Path, version: int | None) -> StoreVersion:
    """A version's counts; the newest where `version` is None.

    Raises:
        ArtifactError: no such version, or another than `CURRENT.json` names by its digest.
    """
    current = _read_json(folder / CURRENT) if version is None else {"version": version}
    if unknown := set(current) - {"version", "digest"}:
        raise _unreadable(folder / CURRENT, ValueError(f"unknown keys {sorted(unknown)}"))
    number, digest = current["version"], current.get("digest")
    found = _read_json(version_path(folder, number))
    named = version is None and "before" in found  # stores of earlier releases have no digests
    if (named or digest is not None) and digest != version_digest(folder, number):
        raise ArtifactError(
            "damaged catalogue: a version or the format was changed",
            got=version_path(folder, number),
            mend="build the catalogue anew",
        )
    return StoreVersion(**{name: found[name] for name in ("version", ITEMS, CHANGED, WITHDRAWN)})


def version_digest(folder: Path, version: int) -> str:
    """Names a version: its columns, its counts, the hashes of the rows that it brought.

    Each version keeps the digest of the one before, so that a digest names all of them.
    """
    digest = hashlib.sha256(read_bytes(folder / FORMAT))
    digest.update(read_bytes(version_path(folder, version)))
    return digest.hexdigest()


@loads("catalogue")
def read_chunks(folder: Path, version: int) -> list[dict[str, Any]]:
    """The bytes that a version added: `file`, `begin`, `end` and `sha256` of each piece.

    Raises:
        ArtifactError: no such version, or one that does not follow on the version before it.
    """
    found = _read_json(version_path(folder, version))
    before = found.get("before")  # none in stores of earlier releases, and in the first version
    if before and before != version_digest(folder, version - 1):
        raise ArtifactError(
            "damaged catalogue: a version was changed",
            got=version_path(folder, version - 1),
            mend="build the catalogue anew",
        )
    return found["chunks"]


@loads("catalogue")
def read_format(folder: Path) -> StoreFormat:
    """The columns."""
    found = _read_json(folder / FORMAT)
    if (got := found.pop("format_version", None)) != FORMAT_VERSION:
        raise ArtifactError(
            "catalogue of another format version", got=f"{got} in {folder}", expected=FORMAT_VERSION
        )
    for name in ("dense_names", "categorical_names"):
        _require_all(name, found[name], str)
        if len(set(found[name])) < len(found[name]):
            raise ValueError(f"{name} says something twice")
    _require_all("vocab_sizes", found["vocab_sizes"], int)
    _require_all("embedding_dim", [found["embedding_dim"]], int)
    return StoreFormat(**found)


def _require_all(name: str, values: Any, kind: type) -> None:
    """JSON can hold anything where a list of names or sizes should stand."""
    if not isinstance(values, list) or any(type(value) is not kind for value in values):
        raise ValueError(f"{name} is {str(values)[:60]}, no list of {kind.__name__}")


def format_json(form: StoreFormat) -> dict[str, object]:
    """What `read_format` reads."""
    return asdict(form) | {"format_version": FORMAT_VERSION, "embedding": form.embedding.value}


def read_bytes(path: Path) -> bytes:
    """A small file of a store; an ArtifactError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_json(path: Path) -> dict[str, Any]:
    found = read_json(path, "catalogue")
    if not isinstance(found, dict):
        raise _unreadable(path, ValueError(f"a {type(found).__name__}, no object"))
    return found


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        "unreadable catalogue", got=f"{path}: {error}", expected="a catalogue store"
    )
