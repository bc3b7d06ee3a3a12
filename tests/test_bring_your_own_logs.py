"""docs/bring-your-own-logs.md works: its blocks are carried out in order, as a reader would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_bring_your_own import blocks, carry_out

PAGE = Path(__file__).parents[1] / "docs" / "bring-your-own-logs.md"
GIVEN = "make_files.py"  # stands in for the files that a reader has


def effort(page: str) -> dict[str, int]:
    """Commands and lines that are the reader's own, YAML included."""
    parts = [b for b in blocks(page) if b.path != GIVEN and f"python {GIVEN}" not in b.text]
    lines = [(b, [t for t in b.text.splitlines() if t.strip()]) for b in parts]
    return {
        "commands": sum(len(found) for block, found in lines if not block.path),
        "lines": sum(len(found) for block, found in lines if block.path),
    }


def test_the_page_asks_little() -> None:
    found = effort(PAGE.read_text())
    assert 5 <= found["commands"] <= 10
    assert 30 <= found["lines"] <= 40


@pytest.mark.page
@pytest.mark.slow
def test_the_page_leads_from_files_to_a_policy(tmp_path: Path) -> None:
    said = carry_out(PAGE.read_text(), tmp_path)
    assert "wrote conf/experiment/my_feed.yaml" in said
    assert "policy.support_density is on" in said
    assert "  error " not in said
    run = tmp_path / "runs/my_feed"
    assert "surface_home" in (tmp_path / "runs/my_feed-data.html").read_text()
    report = json.loads((run / "report/report.json").read_text())
    assert report["gate"]["target_metric"] == "clicked_per_session"
    assert "watch_10s" not in json.dumps(report), "a metric of another log's task"
    (judge,) = [e for e in report["environments"] if e["kind"] == "holdout_simulator"]
    assert {"policy", "ranker", "random"} <= set(judge["arms"])
    assert report["step0_parity"]["max_rank_difference"] == 0
    assert (run / "export/manifest.json").is_file()
