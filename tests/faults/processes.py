"""Ray's processes below this one, and their end; nobody else's are ever looked at."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def actors(kind: str) -> list[int]:
    """Process ids of the actors of a class, such as "SessionRunner", that descend from us."""
    return [pid for pid in _descendants() if _title(pid).startswith(f"ray::{kind}")]


def kill(pid: int) -> None:
    """`kill -9`."""
    os.kill(pid, signal.SIGKILL)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # The second field is a name in parentheses, which may hold spaces.
            found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def _descendants() -> list[int]:
    parents, ours, found = _parents(), os.getpid(), []
    for pid in parents:
        above = parents.get(pid)
        while above not in (None, 0, ours):
            above = parents.get(above)
        if above == ours:
            found.append(pid)
    return found
