"""Seconds of each stage of the demo's run, for so many logged events, now and at another commit.

Stages are told by the lines that a run prints when they end, so any commit can be measured.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from experiments.result import figure, write_result

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
WORK = Path("runs/whole_run").resolve()
EVENTS_A_SESSION = 13.4  # of the logs of `fatigue`
ENDED = (0, 3)  # done; done, and not released
_DONE = re.compile(r"^([a-z-]+)(?:, round \d+ of \d+)?: done in")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", nargs="+", type=int, default=[8_000, 80_000])
    parser.add_argument("--before", default="", help="the commit to compare with; empty: none")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each, in turn")
    parser.add_argument("settings", nargs="*", help="of the run")
    given = parser.parse_args()
    trees = {"after": ROOT} | ({"before": checked_out(given.before)} if given.before else {})
    found: dict[tuple[str, str, int], list[float]] = {}
    for _ in range(given.repeats):
        for events in given.events:
            for side, tree in trees.items():
                for what, seconds in measured(tree, events, given.settings).items():
                    found.setdefault((what, side, events), []).append(seconds)
                    print(what, events, side, f"{seconds:.1f} s", flush=True)
    command = "benchmarks/whole_run/run " + " ".join(sys.argv[1:])
    write_result(HERE, command, figures_of(found, given.before), seeds=[0])


def measured(tree: Path, events: int, settings: list[str]) -> dict[str, float]:
    """Wall seconds up to the end of each stage since the last one's, and of processors in all."""
    folder = WORK / f"run_{events}"
    shutil.rmtree(folder, ignore_errors=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "recomind.cli", "run", "experiment=demo", "rounds=1"]
        + [f"collect.num_sessions={round(events / EVENTS_A_SESSION)}", f"output={folder}"]
        + settings,
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    began = last = time.monotonic()
    seconds: dict[str, float] = {}
    for line in process.stderr:
        print(line, end="", file=sys.stderr)
        if (stage := _DONE.match(line)) is not None:
            now = time.monotonic()
            seconds[stage[1]], last = now - last, now
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in ENDED:
        raise SystemExit(f"the run of {events} events in {tree}: status {process.returncode}")
    shutil.rmtree(folder)
    total = {"total": time.monotonic() - began, "processor": used.ru_utime + used.ru_stime}
    return seconds | total


def checked_out(commit: str) -> Path:
    """A working tree of `commit`, made anew."""
    tree = WORK / "before"
    if tree.exists():
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], check=True)
    subprocess.run(["git", "worktree", "add", "--detach", str(tree), commit], check=True)
    return tree


def figures_of(found: dict[tuple[str, str, int], list[float]], before: str) -> dict[str, dict]:
    """`seconds.<stage>.<events>.<before or after>`, medians over the repeats."""
    more: dict[str, dict[str, Any]] = {"after": {}, "before": {"commit": before}}
    return {
        f"seconds.{what}.{events}.{side}": figure(
            statistics.median(seconds), unit="s", n=len(seconds), **more[side]
        )
        for (what, side, events), seconds in found.items()
    }


if __name__ == "__main__":
    main()
