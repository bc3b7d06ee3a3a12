"""A run whose processes are killed at random, again and again: what it ends with, and leaves."""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from experiments.result import figure, write_result

KEPT = Path("runs/soak")
RUN = ("run", "experiment=tiny")
STAGES = {  # artifact in the run's folder -> the stage that makes it
    "round_0/sessions": "collect-logs",
    "round_0/ranker": "train-ranker",
    "round_0/index": "build-index",
    "round_0/simulator": "fit-simulator",
    "round_0/holdout_simulator": "fit-holdout",
    "round_0/fidelity": "fidelity",
    "round_0/policy": "train-policy",
    "report": "evaluate",
    "export": "export",
}
START, START_SHARE = "start", 0.2  # the program is loading: one draw in five kills it there
ENDED = (0, 3)  # done; done, and not released
SETTLE_S = 20.0  # for Ray's processes to notice that their head is gone
MARK = "RECOMIND_SOAK"  # in the environment of every process that a run starts


class Soak:
    """Kills by a seed, in runs that are begun again until they end."""

    def __init__(
        self, seed: int, settings: list[str], pause_s: tuple[float, float], temporary: Path
    ) -> None:
        self.draws, self.settings, self.temporary = random.Random(seed), settings, temporary
        self.pause_s = pause_s  # bounds of the seconds between two kills
        self.kills: Counter[str] = Counter()  # by the stage that was under way
        self.mark = uuid.uuid4().hex

    def undisturbed(self) -> dict[str, Any]:
        """The report of a run that nobody kills."""
        process = self._start(KEPT / "whole")
        if process.wait() not in ENDED:
            raise SystemExit(f"the undisturbed run fails: see {KEPT}/whole.log")
        return _report(KEPT / "whole")

    def disturbed(self, folder: Path, until: float) -> dict[str, Any] | None:
        """The report of a run that is killed until it ends; None where it never does."""
        failures = 0
        while failures < 3:
            process = self._start(folder)
            killed = self._kill_while(process, folder, until)
            if process.wait() in ENDED:
                return _report(folder)
            failures = 0 if killed else failures + 1  # ended badly, and nobody had killed anything
        return None

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "recomind.cli", *RUN, *self.settings]
                + [f"hydra.run.dir={folder}"],
                env=os.environ
                | {"TMPDIR": str(self.temporary), "RAY_TMPDIR": str(self.temporary)}
                | {MARK: self.mark},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _kill_while(self, process: subprocess.Popen[bytes], folder: Path, until: float) -> int:
        """Kill one process of the run now and then; how many.

        The pause between two is drawn in logarithms: short ones meet short stages, and long ones
        let a stage that begins anew come to its end.

        A run begun again is left alone until it is in its stage: killed while it starts, it would
        never come further.
        """
        killed = 0
        while process.poll() is None and time.monotonic() < until:
            try:
                process.wait(math.exp(self.draws.uniform(*map(math.log, self.pause_s))))
            except subprocess.TimeoutExpired:
                stage, victims = _stage(folder), self.processes()
                if victims and (stage != START or self.draws.random() < START_SHARE):
                    self.kills[stage] += 1
                    killed += _kill(self.draws.choice(victims))
        return killed

    def processes(self) -> list[int]:
        """Ids of all that the runs have started and that still live."""
        sought = f"{MARK}={self.mark}".encode()
        return sorted(
            int(entry.name)
            for entry in Path("/proc").glob("[0-9]*")
            if sought in _read(entry / "environ")
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _kill(pid: int) -> int:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def _stage(folder: Path) -> str:
    """The stage that is under way, `START` where the program has said nothing yet."""
    if not folder.with_suffix(".log").stat().st_size:
        return START
    absent = (stage for path, stage in STAGES.items() if not (folder / path).is_dir())
    return next(absent, "after the last")


def _report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report" / "report.json").read_text())


def _shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


def main() -> None:
    """Soak for the minutes that are given, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--pause", type=float, nargs=2, default=[2.0, 120.0], metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("settings", nargs="*", help="further settings of the run")
    given = parser.parse_args()
    shutil.rmtree(KEPT, ignore_errors=True)
    before = _shared_memory()
    with tempfile.TemporaryDirectory(prefix="soak") as temporary:
        soak = Soak(given.seed, given.settings, tuple(given.pause), Path(temporary))
        whole = soak.undisturbed()
        until, reports = time.monotonic() + 60 * given.minutes, []
        while time.monotonic() < until:
            reports.append(soak.disturbed(KEPT / f"disturbed_{len(reports)}", until))
            print(f"{len(reports)} runs, {dict(soak.kills)}", file=sys.stderr)
        time.sleep(SETTLE_S)
        left = soak.processes()
        folders = [p.name for p in Path(temporary).iterdir() if not p.name.startswith("ray")]
    figures = {
        "kills": figure(soak.kills.total(), unit="kills"),
        **{f"kills.{stage}": figure(n, unit="kills") for stage, n in soak.kills.items()},
        "runs": figure(len(reports), unit="runs"),
        "lost": figure(sum(report is None for report in reports), unit="runs"),
        "report_equal": figure(sum(report == whole for report in reports) / len(reports)),
        "left_processes": figure(len(left), unit="processes"),
        "left_shared_memory": figure(len(_shared_memory() - before), unit="files"),
        "left_folders": figure(len(folders), unit="folders"),
    }
    print(f"left: processes {left}, folders {folders}", file=sys.stderr)
    command = " ".join(["benchmarks/soak/run", *sys.argv[1:]])
    write_result(Path(__file__).parent, command, figures, seeds=[given.seed])


if __name__ == "__main__":
    main()
