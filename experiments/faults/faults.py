"""Kills of every kind at random moments, and the memory of a million simulated steps."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from experiments.result import figure, write_result
from recomind.artifacts import write_json
from tests.faults.kills import KINDS

KEPT = Path("runs/faults")
SEED = 0
NUM_STEPS = 1_000_000
LEFT_OUT = {"value": None, "reason": "left out by --without"}


def outcome(name: str, program: list[str]) -> dict[str, Any]:
    """What `program` printed last; kept, and not run again."""
    path = KEPT / f"{name}.json"
    if not path.is_file():
        print(f"{name} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-m", *program, "--folder", folder],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
        if done.returncode:
            return {"error": f"exit status {done.returncode}"}
        write_json(path, json.loads(done.stdout.splitlines()[-1]))
    return json.loads(path.read_text())


def of_kills(kind: str, num_kills: int) -> dict[str, Any]:
    """Figures of one kind."""
    program = ["tests.faults.kills", kind, "--kills", str(num_kills), "--seed", str(SEED)]
    got = outcome(f"{kind}_{num_kills}", program)
    if "lost" not in got:
        return {f"lost.{kind}": {"value": None, "reason": got["error"]}}
    figures = {
        f"lost.{kind}": figure(got["lost"], n=num_kills, unit="runs"),
        f"seconds_a_kill.{kind}": figure(got["seconds"] / num_kills, unit="s"),
    }
    if "behind_updates" in got:
        behind = figure(got["behind_updates"], n=got["iterations"], unit="updates")
        figures[f"weights_behind_updates.{kind}"] = behind
    return figures


def of_memory(num_steps: int) -> dict[str, Any]:
    """Figures of the memory."""
    program = ["experiments.faults.memory", "--steps", str(num_steps)]
    got = outcome(f"memory_{num_steps}", program)
    if "growth" not in got:
        return {"memory_growth": {"value": None, "reason": got["error"]}}
    return {
        "memory_growth": figure(got["growth"], unit="ratio"),
        "memory_mib": figure(got["last_mib"], unit="MiB"),
        "memory_steps": figure(got["steps"], unit="steps"),
    }


def main() -> None:
    """Run what is absent, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=NUM_STEPS)
    parser.add_argument("--without", nargs="*", default=[], choices=[*KINDS, "memory"])
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    for kind in KINDS:
        if kind in given.without:
            figures[f"lost.{kind}"] = LEFT_OUT
        else:
            figures |= of_kills(kind, given.kills)
    figures |= {"memory_growth": LEFT_OUT} if "memory" in given.without else of_memory(given.steps)
    command = " ".join(["experiments/faults/run", *sys.argv[1:]])
    write_result(Path(__file__).parent, command, figures, seeds=[SEED])


if __name__ == "__main__":
    main()
