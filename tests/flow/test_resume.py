"""A run that is killed again and again ends as one that was left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from tests.flow.commands import MICRO, kill_when, read_report, recomind, start

# What is there when the kill comes, the stage that it hits, and what the next command keeps.
KILLS = (
    ("round_0/sessions/manifest.json", []),
    ("round_0/simulator/manifest.json", ["collect-logs"]),
    ("round_0/checkpoints/iteration-00000001/manifest.json", ["train-ranker", "build-index"]),
    ("round_0/policy/manifest.json", ["fit-simulator"]),
)


def first_step(events: Path) -> int:
    """Step of the first scalar in a TensorBoard file."""
    return min(e.step for e in EventFileLoader(str(events)).Load() if e.HasField("summary"))


@pytest.mark.slow
def test_a_run_killed_in_four_stages_ends_like_one_left_alone(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "tiny"
    for marker, kept in KILLS:
        said = kill_when(start("run", *MICRO, cwd=tmp_path), folder / marker)
        assert [stage for stage in kept if f"{stage}: kept from before" not in said] == []
        assert not (folder / "report").exists()
    done = recomind("run", *MICRO, cwd=tmp_path)
    assert "train-policy: kept from before" in done.stderr
    assert read_report(folder) == read_report(finished)
    assert (folder / "export" / "manifest.json").is_file()
    began, went_on = sorted((folder / "tensorboard" / "round_0").iterdir())
    assert first_step(went_on) > first_step(began)
