"""Logs of 1e6 and 1e7 impressions, one pass of training over each, and their `result.json`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from experiments.result import figure, write_result

HERE = Path(__file__).parent
SIZES = {"1e6": 1_000_000, "1e7": 10_000_000}
# glibc gives what is larger pages of its own, which go back when it is freed.
FIXED = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}


def run(script: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a script of this folder in a process of its own; what it printed."""
    command = [sys.executable, str(HERE / script), *arguments]
    environ = {**os.environ, **(environment or {})}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environ)
    return done.stdout


def measure(work: Path, environment: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Size -> what `train.py` found; logs that are there already are not made again."""
    found = {}
    for name, num_impressions in SIZES.items():
        folder = work / name
        run("make_log.py", str(folder), str(num_impressions))
        printed = run("train.py", str(folder), environment=environment)
        found[name] = json.loads(printed.splitlines()[-1])
        print(name, found[name], flush=True)
    return found


def figures(found: dict[str, dict[str, float]], suffix: str = "") -> dict[str, dict]:
    """Speed, peak memory and how the latter grows with the log."""
    entries = {}
    for size, of in found.items():
        name = size + suffix
        # Processor time: on shared cores a clock on the wall tells what the neighbours did.
        rate, by_clock = (of["rows"] / of[seconds] for seconds in ("cpu_seconds", "seconds"))
        entries[f"rows_per_s.{name}"] = figure(rate, unit="rows/s", rows=of["rows"])
        entries[f"rows_per_s_wall.{name}"] = figure(by_clock, unit="rows/s")
        entries[f"rss_mib.{name}"] = figure(of["peak_mib"], unit="MiB")
        entries[f"rss_imported_mib.{name}"] = figure(of["imported_mib"], unit="MiB")
    ratio = found["1e7"]["peak_mib"] / found["1e6"]["peak_mib"]
    return entries | {f"rss_ratio_1e7_1e6{suffix}": figure(ratio)}


def main() -> None:
    """Make, train, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, help="where the logs are kept; a temporary folder")
    work = parser.parse_args().work
    with tempfile.TemporaryDirectory() as temporary:
        folder = work or Path(temporary)
        entries = figures(measure(folder, {}))
        entries |= figures(measure(folder, FIXED), ".fixed_threshold")
    write_result(HERE, "benchmarks/ranker_memory/run", entries, seeds=[0])


if __name__ == "__main__":
    main()
