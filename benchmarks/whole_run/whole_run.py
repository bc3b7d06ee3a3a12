"""Whole runs before and after a change, stage by stage, which take turns; then `result.json`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from experiments.result import figure, write_result

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
SETTINGS = ["experiment=tiny"]
SESSIONS = {"8000": 800}  # events logged -> sessions of ten events


def seconds(tree: Path, num_sessions: int) -> dict[str, float]:
    """Stage -> processor seconds of a run of the package in `tree`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "seconds.json"
        settings = [*SETTINGS, f"output={folder}/run", f"collect.num_sessions={num_sessions}"]
        command = [sys.executable, "-W", "ignore", str(HERE / "one_run.py"), str(file), *settings]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), str(ROOT)])}
        subprocess.run(command, check=True, env=environment, cwd=tree)
        return json.loads(file.read_text())


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path, required=True, help="a checkout to compare with")
    before = parser.parse_args().before
    entries = {}
    for events, num_sessions in SESSIONS.items():
        for name, tree in (("before", before), ("after", ROOT)):
            for stage, value in seconds(tree, num_sessions).items():
                entries[f"seconds.{stage}.{events}.{name}"] = figure(value, unit="s")
    write_result(HERE, "benchmarks/whole_run/run --before <checkout>", entries, seeds=[0])


if __name__ == "__main__":
    main()
