"""What needs no torch does not import it, and says what it has to say in time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import recomind
from recomind.cli.usage import usage
from recomind.pipeline.registry import _STAGES

_TIMED = """
import resource, sys
from recomind.cli import main
status = main(sys.argv[1:])
heavy = {"torch", "numpy", "polars", "ray", "tensordict"} & set(sys.modules)
usage = resource.getrusage(resource.RUSAGE_SELF)
print("", status, usage.ru_utime + usage.ru_stime, *sorted(heavy), file=sys.stderr)
"""


def answered(*arguments: str, cwd: Path) -> tuple[int, float, list[str], str]:
    """Status, processor time, heavy packages that were imported, and what was printed."""
    done = subprocess.run(
        [sys.executable, "-c", _TIMED, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(recomind.__file__).parents[1])},
    )
    status, seconds, *heavy = done.stderr.splitlines()[-1].split()
    return int(status), float(seconds), heavy, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--version"], 0, f"recomind {recomind.__version__}\n"),
        (["--help"], 0, "usage: recomind <command>"),
        (["run", "--help"], 0, "usage: recomind run [key=value ...]"),
        (["run", "experiment=tyny"], 2, "did you mean 'tiny'?"),
        (["run", "experiment=tiny", "training.gama=1"], 2, "did you mean 'gamma'?"),
        (["run", "experiment=tiny", "training.gamma=2"], 2, "expected: in [0, 1)"),
        (["completion", "bash"], 0, "complete -F _recomind recomind"),
    ],
    ids=["version", "usage", "help", "preset", "setting", "value", "completion"],
)
def test_the_answer_comes_without_torch(
    arguments: list[str], status: int, said: str, tmp_path: Path
) -> None:
    got, seconds, heavy, printed = answered(*arguments, cwd=tmp_path)
    assert (got, heavy) == (status, [])
    assert said in printed
    assert seconds < 3.0  # a second on a free core; torch alone would be more on a busy one
    assert list(tmp_path.iterdir()) == []


def test_every_stage_stands_in_the_usage() -> None:
    made = {*_STAGES} - {"select-round"}  # part of `run`
    assert [name for name in made if f"\n  {name} " not in usage()] == []
