"""The process that programs are forked from: `launching` starts it and sends it requests.

For each request it forks a process that waits, and that one forks the program.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from recomind.pipeline import stages

BESIDE_STAGES = (
    "recomind.cli.application",
    "recomind.pipeline.rounds",
    "recomind.export.onnx",
    "torchrec",
    "torch._dynamo",  # by the first optimiser
    "lightgbm",
)


def preload() -> None:
    """Import what a run of all stages imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for whoever starts without preloading to hear
        inside = [
            f"{stages.__name__}.{each.name}" for each in pkgutil.iter_modules(stages.__path__)
        ]
        for name in (*inside, *BESIDE_STAGES):
            importlib.import_module(name)


def installed() -> list[str]:
    """`sys.path` of a program that has neither a folder nor a PYTHONPATH of its own.

    What is installed in place is there too, such as this project, whose folder is the one that this
    process was started in.
    """
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = "import json, sys; print(json.dumps(sys.path))"
    asked = [sys.executable, "-P", "-c", code]
    return json.loads(subprocess.run(asked, env=plain, stdout=subprocess.PIPE, check=True).stdout)


def serve(listener: socket.socket) -> socket.socket:
    """Wait for requests; returns only in the forked processes, with a request's connection."""
    with listener:
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                return connection
            connection.close()
            reap()
    reap()
    os._exit(0)  # whoever started this process has ended


def reap() -> None:
    """Let those go who have waited, so that what their programs took counts as this process's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def receive(connection: socket.socket) -> tuple[list[str], str, dict[str, str]]:
    """Fork the program; returns only there, with its arguments, folder and environment."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    with connection, connection.makefile() as lines:
        request = json.loads(lines.readline())
        program = os.fork()
        if program:
            for stream in streams:
                os.close(stream)
            connection.sendall(f"{program}\n".encode())
            ended = os.pidfd_open(program)
            if ended not in select.select([ended, connection], [], [])[0]:
                os.killpg(program, signal.SIGKILL)  # whoever asked for it has gone
            _, status = os.waitpid(program, 0)
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    return request


def run(path: list[str], arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """What `python` does with these arguments, in this folder and environment."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    module = arguments[0] == "-m"
    theirs = [folder if module else str(Path(arguments[0]).resolve().parent)]
    theirs += filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = theirs + path
    sys.argv[:] = arguments[module:]
    if module:
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(arguments[0], run_name="__main__")


def end(program: Callable[[], None]) -> NoReturn:
    """Run a program to its end; the interpreter, full of packages, is not torn down."""
    status: object = 0
    try:
        program()
    except SystemExit as ended:
        status = ended.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    preload()
    path = installed()
    request = receive(serve(socket.socket(fileno=int(sys.argv[1]))))
    end(lambda: run(path, *request))
