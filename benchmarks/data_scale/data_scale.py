"""What each stage takes for N events, beside a plain sort and join of the same files by polars."""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.result import figure, write_result

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
WORK, GROUPS = Path("runs/data_scale").resolve(), Path("/sys/fs/cgroup/memory")
STAGES = ("prepare-data", "train-ranker", "build-index", "fit-simulator")


@dataclass(kw_only=True, slots=True)
class Took:
    """What a process took."""

    seconds: float  # processor time
    peak_gib: float  # largest resident memory


def measured(command: list[str], folder: Path, limit_gib: float = 0.0) -> Took:
    """Run a command in a process of its own, under a limit of its memory where one is given."""
    group = _group(limit_gib)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def limited() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        elif limit_gib:
            size = int(limit_gib * 2**30)
            resource.setrlimit(resource.RLIMIT_DATA, (size, size))

    process = subprocess.Popen(command, cwd=folder, env=environment, preexec_fn=limited)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if group is not None:
        group.rmdir()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: status {process.returncode}")
    return Took(seconds=used.ru_utime + used.ru_stime, peak_gib=used.ru_maxrss / 2**20)


def _group(limit_gib: float) -> Path | None:
    """A control group with this limit; None where there is no limit or no such groups."""
    if not limit_gib or not os.access(GROUPS, os.W_OK):
        return None
    group = GROUPS / f"data_scale_{os.getpid()}"
    group.mkdir(exist_ok=True)
    (group / "memory.limit_in_bytes").write_text(str(int(limit_gib * 2**30)))
    return group


def figures_of(size: str, stages: list[str], limit_gib: float) -> dict[str, dict]:
    """The figures of one number of events."""
    folder = WORK / size
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "conf" / "experiment").mkdir(parents=True)
    shutil.copy(HERE / "config.yaml", folder / "conf" / "experiment" / "scale.yaml")
    own = [sys.executable, "-m", "benchmarks.data_scale.stages"]
    measured([*own, "make", size, "."], folder)
    plain = measured([*own, "polars", size, "."], folder)
    found = {f"peak_gib.polars.{size}": figure(plain.peak_gib, unit="GiB")}
    for stage in stages:
        command = [sys.executable, "-m", "recomind.cli", stage, "experiment=scale", "output=run"]
        took = measured(command, folder, limit_gib)
        print(size, stage, took, flush=True)
        found[f"peak_gib.{stage}.{size}"] = figure(took.peak_gib, unit="GiB")
        found[f"seconds.{stage}.{size}"] = figure(took.seconds, unit="s")
        if stage == "prepare-data":
            found[f"rows_per_s.{size}"] = figure(float(size) / took.seconds, unit="events/s")
            found[f"over_polars.{size}"] = figure(took.seconds / plain.seconds)
    shutil.rmtree(folder)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=["1e6", "1e7"])
    parser.add_argument("--stages", nargs="+", default=list(STAGES))
    parser.add_argument("--limit-gib", type=float, default=4.0, help="of memory; 0: none")
    given = parser.parse_args()
    figures: dict[str, dict] = {}
    for size in given.sizes:
        figures |= figures_of(size, given.stages, given.limit_gib)
    figures["limit_gib"] = figure(given.limit_gib, unit="GiB")
    write_result(HERE, "benchmarks/data_scale/run " + " ".join(sys.argv[1:]), figures, seeds=[0])


if __name__ == "__main__":
    main()
