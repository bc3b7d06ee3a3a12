"""A disk that is full, however whoever writes says so."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recomind.artifacts.checked_reading import brief
from recomind.errors import DiskFullError

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# polars, safetensors and faiss hand on the system's text; numpy counts what it could write.
_WORDS = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|os error (28|122|27)\b"
    r"|\d+ requested and \d+ written"
)
_MEND = "make room, or choose another disk with output=...; the same command goes on from here"


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, is that of a disk without room.

    >>> is_disk_full(RuntimeError("failed: No space left on device (os error 28)"))
    True
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if getattr(link, "errno", None) in _NUMBERS or _WORDS.search(str(link)[:10_000]):
            return True
        link = link.__cause__ or link.__context__
    return False


def disk_full_error(place: object, error: BaseException) -> DiskFullError:
    """The typed error of a disk without room at `place`."""
    return DiskFullError("no room on the disk", got=f"{place}: {brief(error)}", mend=_MEND)


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Say in one typed error that there was no room for what the block writes to `path`.

    Raises:
        DiskFullError: the disk, or the quota on it, is full.
    """
    try:
        yield
    except DiskFullError:
        raise
    except BaseException as error:
        if not is_disk_full(error):
            raise
        raise disk_full_error(path, error) from error
