"""A preloaded program is the program: its arguments, environment, folder, streams and end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.preloaded.launching import commands, start

SAY = """
import json, os, sys
loaded = "torch" in sys.modules
print(json.dumps([sys.argv, os.getcwd(), os.environ["SAID"], sys.path[0], __name__, loaded]))
print("heard", sys.stdin.read(), file=sys.stderr)
"""
TIMEOUT_S = 120.0


def program(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "program.py"
    path.write_text(text)
    return path


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{commands(folder / 'commands')}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONWARNINGS": "", "SAID": "so"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_a_file_runs_as_it_would_alone(tmp_path: Path) -> None:
    path = program(tmp_path / "elsewhere", SAY)
    done = start([str(path), "one", "two words"], cwd=tmp_path, environment={"SAID": "yes"}).ended(
        TIMEOUT_S
    )
    said = [[str(path), "one", "two words"], str(tmp_path), "yes", str(path.parent), "__main__"]
    assert json.loads(done.stdout) == [*said, True]
    assert (done.returncode, done.stderr.split()[0]) == (0, "heard")


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit('no')", 1, "no\n"),
        ("import atexit, sys; atexit.register(sys.stderr.write, 'bye'); sys.exit()", 0, "bye"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
    ],
)
def test_its_end_is_its_own(tmp_path: Path, text: str, status: int, said: str) -> None:
    done = start([str(program(tmp_path, text))], cwd=tmp_path).ended(TIMEOUT_S)
    assert done.returncode == status
    assert done.stderr.endswith(said)
    assert bool(done.stderr) is bool(said)


def test_one_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    text = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid); p.wait()"
    started = start([str(program(tmp_path, text.replace("p.pid)", "p.pid, flush=True)")))])
    with pytest.raises(TimeoutError, match=r"has not ended within 3"):
        started.ended(timeout_s=3)
    assert started.process.returncode == -signal.SIGKILL
    assert not Path(f"/proc/{started.process.pid}").exists()


def test_a_shell_has_it_as_python(tmp_path: Path) -> None:
    program(tmp_path, SAY)
    done = shell(
        "echo input | python program.py one; python -c 'import sys; print(sys.orig_argv[1])'",
        tmp_path,
    )
    first, second = done.stdout.splitlines()
    assert json.loads(first)[:3] == [["program.py", "one"], str(tmp_path), "so"]
    assert json.loads(first)[-1]
    assert second == "-c"
    assert done.stderr == "heard input\n\n"


def test_a_run_is_given_further_settings_and_no_other_command_is(tmp_path: Path) -> None:
    folder = commands(tmp_path / "commands", ["curve_sessions=7", "seed=4"])
    for command, given in (("run", True), ("collect-logs", False)):
        shown = [folder / "recomind", command, "world=fatigue", "seed=3", "--cfg", "job"]
        done = subprocess.run(shown, cwd=tmp_path, capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        assert ("curve_sessions: 7" in lines) is given
        assert ("seed: 4" if given else "seed: 3") in lines


def test_it_finds_what_is_installed_in_place(tmp_path: Path) -> None:
    program(tmp_path, "import simulators; print(simulators.__name__)")
    done = shell("env -u PYTHONPATH python program.py", tmp_path)
    assert (done.stdout, done.stderr) == ("simulators\n", "")


def test_a_shell_stops_it_as_any_other(tmp_path: Path) -> None:
    program(tmp_path, "import time; print('up', flush=True); time.sleep(60)")
    script = "python program.py > said & until grep -q up said; do sleep 0.1; done; "
    began = time.monotonic()
    done = shell(script + "kill -TERM $!; wait $!", tmp_path)
    assert done.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - began < 50


def test_it_ends_with_whoever_asked_for_it(tmp_path: Path) -> None:
    program(tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    script = "python program.py > said 2>&1 & until grep -q . said; do sleep 0.1; done; kill -9 $!"
    shell(script, tmp_path)
    stat = Path(f"/proc/{(tmp_path / 'said').read_text().strip()}/stat")
    deadline = time.monotonic() + 30
    while stat.exists() and " Z " not in stat.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not stat.exists()
