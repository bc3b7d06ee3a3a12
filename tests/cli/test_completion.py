"""The script for bash completes in a real bash."""

from __future__ import annotations

import subprocess

import pytest

from recomind.cli.application import sweep_status
from tests.flow.in_process import Command

_TAB = """source /dev/stdin
COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_CWORD={word}
_recomind 2>/dev/null; printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("line", "word", "completed"),
    [
        ("recomind trai", 1, ["train-ranker", "train-policy", "train-seeds"]),
        ("recomind run experiment=ti", 4, ["tiny"]),
        ("recomind run --multi", 2, ["--multirun"]),
        ("recomind run seed=1 training.gam", 5, ["training.gamma="]),
        ("recomind run -m simulation.pessimism=m", 5, ["minimum"]),
    ],
)
def test_bash_completes(command: Command, line: str, word: int, completed: list[str]) -> None:
    script = command("completion", "bash").out
    done = subprocess.run(
        ["bash", "--norc", "-c", _TAB.format(line=line, word=word)],
        input=script,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == completed


def test_a_shell_without_a_script(command: Command) -> None:
    outcome = command("completion", "csh")
    assert (outcome.status, outcome.out) == (2, "")
    assert "known are bash, fish, zsh" in outcome.err or "did you mean" in outcome.err


class Job:
    """A finished job with this status."""

    def __init__(self, status: int) -> None:
        self.return_value = status


@pytest.mark.parametrize(
    ("statuses", "of_the_sweep"), [([3, 3], 3), ([3, 0], 0), ([0, 2], 2), ([3, 2], 2), ([], 0)]
)
def test_the_status_of_a_sweep(statuses: list[int], of_the_sweep: int) -> None:
    jobs = [Job(status) for status in statuses]
    assert sweep_status([jobs]) == of_the_sweep  # type: ignore[list-item]
