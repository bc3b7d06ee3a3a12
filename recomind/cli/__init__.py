"""The command line: `recomind <stage> [key=value ...]`, every stage a Hydra application."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from recomind import __version__
from recomind.cli.usage import FLOW, usage


def command() -> NoReturn:
    """What the installed command and `python -m recomind.cli` run: `main`, and then the end.

    The interpreter is not torn down. Ray leaves native threads behind, and what they still use
    would be freed under them: a run of three rounds that had written and said everything died of
    SIGSEGV, which a caller takes for a failure. Ray's own workers end like this.
    """
    status = main()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):  # whoever read our output has gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    # One thread a process unless told otherwise: two on shared cores were slower than one.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # two jobs may well print the same line
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"recomind {__version__}")
        return 0
    return _dispatch(arguments[0], arguments[1:])


def _dispatch(command: str, rest: list[str]) -> int:
    if command == "doctor":
        from recomind.cli import doctor

        return doctor.main()
    if command == "results":
        from recomind.cli import results

        return results.main(rest)
    if command == "compare":
        from recomind.cli import compare

        return compare.main(rest)
    if command == "init":
        from recomind.cli import init

        return init.main(rest)
    if command == "completion":
        from recomind.cli import completion

        return completion.main(rest)
    from recomind.errors import did_you_mean

    if command not in FLOW:
        known = [*FLOW, "init", "results", "compare", "doctor", "completion"]
        print(
            f"error: unknown command {command!r}: {did_you_mean(command, known)}", file=sys.stderr
        )
        return 2
    from recomind.cli.application import run_stage

    return run_stage(command, rest)
