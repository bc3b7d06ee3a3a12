"""The line of a stage."""

from __future__ import annotations

import pytest

from recomind.pipeline import progress
from recomind.pipeline.progress import StageLine


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_of_a_second_part_is_counted_from_its_begin(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    line = StageLine("build-index")
    for clock[0], done in ((150.0, 1), (200.0, 2), (201.0, 0), (241.0, 1)):
        line(done, 2, "of something")
    clock[0] = 281.0
    line.done()
    assert capsys.readouterr().err.splitlines() == [
        "build-index:  50%, 50 s left of something",
        "build-index: 100%, 0 s left of something",
        "build-index:  50%, 40 s left of something",
        "build-index: done in 3 min 01 s",
    ]


def test_with_nothing_done_no_time_is_foretold(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    line = StageLine("evaluate")
    clock[0] = 160.0
    line(0, 2, "(world)")
    assert capsys.readouterr().err == "evaluate:   0% (world)\n"
