"""A service in a process of its own, and clients that are slow, many or rude."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.serving.test_request import GOOD

_SERVE = """
import json, sys
from pathlib import Path
from recomind.serving import ServingConfig
from recomind.serving.app import serve_forever
if __name__ == "__main__":
    settings = json.loads(sys.argv[2])
    serve_forever(Path(sys.argv[1]), ServingConfig(**settings))
"""
PATIENCE_S = 180.0  # for a process to start on a machine that is busy
BODY = json.dumps(GOOD).encode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port: int, path: str, body: bytes | None = None, timeout_s: float = 10.0):
    """Status, headers and decoded JSON of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET" if body is None else "POST", path, body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), json.loads(answer.read())
    finally:
        connection.close()


def half_sent(port: int, num: int) -> list[socket.socket]:
    """Connections that promised a body and sent the beginning of it."""
    head = b"POST /rank HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + BODY[:12]
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(num)]
    for each in held:
        each.sendall(head)
    return held


@contextmanager
def service(folder: Path, **settings: Any) -> Iterator[tuple[subprocess.Popen, int]]:
    """A running service over `folder` and its port; it is killed at the end."""
    port = free_port()
    script = folder.parent / "serve.py"
    script.write_text(_SERVE)
    process = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "ignore",
            str(script),
            str(folder),
            json.dumps(settings | {"port": port}),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=folder.parent,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        _wait_until_ready(process, port)
        yield process, port
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _wait_until_ready(process: subprocess.Popen, port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        try:
            if ask(port, "/healthz")[0] == 200:
                return
        except (OSError, http.client.HTTPException, ValueError):
            time.sleep(0.2)
    raise AssertionError("the service did not come up")


def descendants(pid: int) -> list[int]:
    """Processes that `pid` started, and theirs."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def listeners(pids: list[int]) -> set[str]:
    """Local addresses, in the hexadecimal of /proc/net/tcp, that these processes listen on."""
    inodes = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(path)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1])
    return found
