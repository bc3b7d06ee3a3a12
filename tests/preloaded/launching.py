"""Python programs that start at once: forked from a process that has made their imports already.

Torch, Ray and torchrec together take some seconds of processor time to import, and the tests start
dozens of programs that need them. Each is still a process of its own, with its own arguments,
environment, folder, streams and end; only the imports are those of the process that it comes from.
What a fresh process imports, and says while it does, has its own tests: `test_lazy`,
`test_architecture`, `cli/test_quick_start`, `cli/test_bad_input`.

As a program, this file does the same for a shell: see `commands`.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).parents[2]
STREAMS = (0, 1, 2)
ADDRESS = "RECOMIND_TESTS_PRELOADED"


@dataclass(slots=True)
class Launched:
    """A program that runs, as the leader of a session of its own."""

    pid: int
    _connection: socket.socket
    _answers: TextIO  # of whoever waits for the program; its status is the last line
    returncode: int | None = field(default=None, init=False)

    def poll(self) -> int | None:
        """As that of `subprocess.Popen`."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout_s: float | None = None) -> int:
        """The status, once the program has ended; negative where a signal ended it.

        Raises:
            TimeoutError: it has not ended by then.
        """
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout_s)[0]:
                raise TimeoutError(f"process {self.pid} has not ended within {timeout_s} s")
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._connection.close()
        return self.returncode


@dataclass(slots=True)
class Started:
    """A program that runs, and the files in memory that it writes to."""

    arguments: Sequence[str]
    process: Launched
    _streams: tuple[int, int]

    def kill(self) -> None:
        """`kill -9` of the program and of all that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ended(self, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Wait for the end of the program, which is killed if that does not come."""
        try:
            status = self.process.wait(timeout_s)
        except BaseException:
            self.kill()
            raise
        said = []
        for stream in self._streams:
            with open(stream) as file:
                file.seek(0)
                said.append(file.read())
        return subprocess.CompletedProcess(self.arguments, status, *said)


def start(
    arguments: Sequence[str], *, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> Started:
    """Start `python` with `arguments`, `-m MODULE ...` or `FILE ...`, in `cwd`.

    Its `environment` is added to that of this process.
    """
    streams = os.memfd_create("out"), os.memfd_create("err")
    process = launch(arguments, cwd, os.environ | (environment or {}), (0, *streams))
    return Started(arguments, process, streams)


def launch(
    arguments: Sequence[str],
    folder: Path,
    environment: dict[str, str],
    streams: tuple[int, int, int] = STREAMS,
    address: str = "",
) -> Launched:
    """Run `python` with `arguments` and the `streams` as its own."""
    connection = socket.socket(socket.AF_UNIX)
    address = address or server()
    connection.connect(address)
    socket.send_fds(connection, [b"\n"], streams)
    request = [list(arguments), str(folder), environment | {ADDRESS: address}]
    connection.sendall(json.dumps(request).encode() + b"\n")
    answers = connection.makefile()
    pid = answers.readline()
    assert pid, "the process that programs are forked from has ended: see what it said"
    return Launched(int(pid), connection, answers)


@functools.cache
def server() -> str:
    """Address of the process that programs are forked from; it ends with whoever asked first."""
    if ADDRESS in os.environ:  # this is such a program
        return os.environ[ADDRESS]
    folder = tempfile.TemporaryDirectory(prefix="preloaded")  # short: it holds a socket
    address = f"{folder.name}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()  # from now on requests wait until the imports are done
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.preloaded.server", str(listener.fileno())],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )

    def end() -> None:
        process.communicate()
        folder.cleanup()

    atexit.register(end)
    return address


def commands(folder: Path, run_settings: Sequence[str] = ()) -> Path:
    """A folder to be the first of PATH: its `python` is preloaded for files, and its `recomind`.

    For anything else, such as `python -c` or where warnings are set, `python` is the real one.
    Each `recomind run` is given `run_settings` besides its own.
    """
    folder.mkdir(exist_ok=True)
    launcher = shlex.join([sys.executable, "-I", "-S", __file__, server()])
    real = f'exec {shlex.quote(sys.executable)} "$@"'
    preloaded = f'case "$1" in *.py) exec {launcher} "$@" ;; esac'
    further = f'[ "$1" != run ] || set -- "$@" {shlex.join(run_settings)}'
    for name, body in (
        ("python", f'[ -n "$PYTHONWARNINGS" ] || {preloaded}\n{real}'),
        ("recomind", f'{further}\nexec {launcher} -m recomind.cli "$@"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return folder


def _as_a_program(address: str, *arguments: str) -> int:
    """Launch, pass signals on, and end with the same status."""
    launched = launch(arguments, Path.cwd(), dict(os.environ), address=address)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(launched.pid, number))
    status = launched.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(_as_a_program(*sys.argv[1:]))
