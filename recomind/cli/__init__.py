"""The command line: `recomind <stage> [key=value ...]`, every stage a Hydra application."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

USAGE = """usage: recomind <command> [key=value ...]

stages, in the order of the flow (each takes Hydra overrides; --help shows its settings)
  collect-logs    a world, a logging policy -> sessions with propensities
  prepare-data    raw logs                  -> sessions, catalogue
  train-ranker    sessions                  -> ranker ensemble, calibrated
  build-index     sessions, catalogue       -> item vectors, nearest-neighbour index
  fit-simulator   rankers, sessions         -> training and hold-out simulator
  train-policy    ranker, simulator         -> policy, checkpoints
  distil-queries  policy, index, sessions   -> index that fetches what the policy values (optional)
  evaluate        policy, ranker, simulators, world -> report.json, report.html
  export          policy                    -> scorer folder, parity report
  run             all of it, in rounds; the same command goes on after a stop

  serve           scorer folder, index      -> HTTP service on loopback
  check-ranker    rankers, or one of yours  -> what is wrong with them
  check-world     a world, simulators       -> what is wrong with them

other commands
  results [dir]   one table over the reports below a folder (default: runs)
  compare a b ... what each run was judged by, side by side
  doctor          look over the installation

examples
  recomind run experiment=demo
  recomind run experiment=kuairand data.root=/path/to/KuaiRand-Pure/data
  recomind run -m hydra/launcher=ray experiment=tiny seed=0,1

exit status: 0 done; 1 internal error; 2 bad input; 3 done, the gate did not release"""


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
        print(USAGE)
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
    from recomind.config import STAGES
    from recomind.errors import did_you_mean

    if command not in STAGES:
        known = [*STAGES, "results", "compare", "doctor"]
        print(
            f"error: unknown command {command!r}: {did_you_mean(command, known)}", file=sys.stderr
        )
        return 2
    from recomind.cli.application import run_stage

    return run_stage(command, rest)
