"""`recomind serve` in a process of its own, which may be killed while it answers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

PATIENCE_S = 300.0
Json = dict[str, Any]


class Service:
    """A service, and a client that asks again where an answer does not come.

    Args:
        settings: of `recomind serve`.
    """

    def __init__(self, settings: Sequence[str]) -> None:
        self.port = _free_port()
        self._settings = [*settings, f"serving.port={self.port}"]
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: http.client.HTTPConnection | None = None
        self.num_kills = 0

    def __enter__(self) -> Service:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE_S)

    def recommend(self, requests: list[Json]) -> list[Json]:
        """Answers of /recommend, however often they must be asked for."""
        deadline = time.monotonic() + PATIENCE_S
        body = json.dumps(requests).encode()
        while time.monotonic() < deadline:
            try:
                self._connection = self._connection or http.client.HTTPConnection(
                    "127.0.0.1", self.port, timeout=30
                )
                self._connection.request("POST", "/recommend", body)
                answer = self._connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                self._connection = None
                time.sleep(0.2)
                continue
            if answer.status == 200:
                return json.loads(content)
            if answer.status != 503:
                raise RuntimeError(f"{answer.status}: {content[:500]!r}")
            time.sleep(1.0)
        raise RuntimeError("the service did not come back")

    def kill_soon(self, seconds: float) -> None:
        """Kill the service and its replicas a moment from now, and start it again."""
        threading.Timer(seconds, self._kill_and_start).start()

    def _kill_and_start(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.num_kills += 1
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "recomind.cli", "serve", *self._settings],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
