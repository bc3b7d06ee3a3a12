"""Who may write into a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recomind.errors import ArtifactError


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
