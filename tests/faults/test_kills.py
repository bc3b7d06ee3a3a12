"""Processes killed at random moments: no run is lost; `experiments/faults` kills 20 a kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.kills import KINDS
from tests.preloaded.launching import start

NUM_KILLS = 1  # each costs a start of Ray or of a program
TIMEOUT_S = 600


@pytest.mark.own_ray
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_kill_loses_a_run(tmp_path: Path, kind: str) -> None:
    command = ["-m", "tests.faults.kills", kind, "--kills", str(NUM_KILLS)]
    done = start([*command, "--folder", str(tmp_path)]).ended(TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["kills"] == NUM_KILLS
    assert outcome["lost"] == 0, (outcome, done.stderr)
    if kind == "learner":
        assert outcome["restarts"] == NUM_KILLS
    if kind == "runner":
        assert outcome["restarts"] == 0  # the others went on meanwhile
