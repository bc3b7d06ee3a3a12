from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.partitions import GRAIN, NUM_EVENTS
from tests.preloaded.launching import start


@pytest.mark.own_ray
@pytest.mark.slow
def test_a_node_that_dies_changes_no_row(tmp_path: Path) -> None:
    done = start(["-m", "tests.faults.partitions", str(tmp_path)]).ended(timeout_s=500)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["equal"]
    assert 0 < outcome["killed"] < NUM_EVENTS // (2 * GRAIN), "the node died too late, or too soon"
