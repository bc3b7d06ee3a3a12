"""What `prepare-data` takes for N events, beside a plain sort and join of the same files."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from experiments.result import figure, write_result

HERE, WORK = Path(__file__).parent, Path("runs/data_scale")
STAGES = ("make", "prepare-data", "polars")


def measured(stage: str, size: str, folder: Path) -> dict[str, float]:
    """Seconds and peak memory of a stage, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.data_scale.stages", stage, size, str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def figures_of(size: str) -> dict[str, dict]:
    """The figures of one number of events."""
    folder = WORK / size
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    took = {stage: measured(stage, size, folder) for stage in STAGES}
    shutil.rmtree(folder)
    ours, plain = took["prepare-data"], took["polars"]
    found = {
        f"rows_per_s.{size}": figure(float(size) / ours["seconds"], unit="events/s"),
        f"over_polars.{size}": figure(ours["seconds"] / plain["seconds"]),
    }
    for stage in STAGES[1:]:
        found[f"peak_gib.{stage}.{size}"] = figure(took[stage]["peak_gib"], unit="GiB")
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=["1e5", "1e6"])
    given = parser.parse_args()
    figures: dict[str, dict] = {}
    for size in given.sizes:
        figures |= figures_of(size)
        print(size, {name: entry["value"] for name, entry in figures.items() if size in name})
    command = "benchmarks/data_scale/run --sizes " + " ".join(given.sizes)
    write_result(HERE, command, figures, seeds=[0])


if __name__ == "__main__":
    main()
