"""What runs on another device than the processor, checked with fake tensors (`spare.py`)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CHECKS = [
    "ranker_trains_and_waits_for_nothing",
    "reading_a_loss_is_seen_as_waiting",
    "policy_learns_and_waits_for_nothing",
    "a_policy_decides",
    "a_part_left_on_the_processor_is_seen",
]


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """What went wrong in each check; all are run in one process."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.devices.spare"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_another_device_does(name, told):
    assert told[name] == ""


@pytest.mark.slow
def test_no_check_is_left_out(told):
    assert sorted(told) == sorted(CHECKS)
