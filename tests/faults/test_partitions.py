from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.partitions import GRAIN, NUM_EVENTS


@pytest.mark.slow
def test_a_node_that_dies_changes_no_row(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.faults.partitions", str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["equal"]
    assert 0 < outcome["killed"] < NUM_EVENTS // (2 * GRAIN), "the node died too late, or too soon"
