"""Identity of files that nobody wrote as an artifact, such as raw logs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from recomind.artifacts.checked_reading import brief
from recomind.errors import ArtifactError

_SAMPLE_BYTES = 2**16  # read at each of the places of a sample
_PLACES = 8  # spread evenly, the first and the last bytes among them


def source_identity(paths: Sequence[Path], *, full: bool = False) -> dict[str, str]:
    """Name and identity of each file, to stand among the `inputs` of what is made from it.

    Args:
        paths: of the files. Names begin where their folders differ, so that a run whose raw files
            were moved together is the same run.
        full: hash every byte, and disregard the time. Otherwise size, time of the last change and
            a sample of the bytes make the identity: enough for files that are replaced or written
            to, in a second for any size.

    Returns:
        "source/<name>" -> sha256.

    Raises:
        ArtifactError: a file cannot be read.
    """
    folders = [Path(path).absolute().parent for path in paths]
    root = Path(os.path.commonpath(folders)) if folders else Path()
    found = {}
    for path in map(Path, paths):
        try:
            digest = _of_all(path) if full else _of_sample(path)
        except OSError as error:
            raise ArtifactError(
                "a raw file cannot be read", got=f"{path}: {brief(error)}"
            ) from error
        found[f"source/{path.absolute().relative_to(root).as_posix()}"] = digest
    return found


def _of_all(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_sample(path: Path) -> str:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
        last = max(0, status.st_size - _SAMPLE_BYTES)
        for place in range(_PLACES):
            file.seek(last * place // (_PLACES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
