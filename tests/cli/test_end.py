"""How the command ends: with its status, all that it said, and no teardown."""

from __future__ import annotations

import shlex
import subprocess
import sys

PROGRAM = """
import atexit
import recomind.cli as cli

class TornDown:
    def __del__(self):
        print("torn down")

here = TornDown()
atexit.register(print, "last words")

def main():
    print("said" * 10_000)
    return 3

cli.main = main
cli.command()
"""


def test_the_status_and_every_word_come_through_and_nothing_is_torn_down() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stdout == "said" * 10_000 + "\nlast words\n"
    assert done.stderr == ""


def test_a_reader_who_has_gone_does_not_change_the_status() -> None:
    program = "import recomind.cli as c; c.main = lambda: bool(print('x')) + 3; c.command()"
    command = f"PYTHONUNBUFFERED= {sys.executable} -c {shlex.quote(program)}"
    script = f"{command} | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", script], check=False).returncode == 3
