"""docs/bring-your-own-world.md works: its blocks are carried out in order, as a reader would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_bring_your_own import blocks, carry_out

PAGE = Path(__file__).parents[1] / "docs" / "bring-your-own-world.md"


@pytest.mark.page
@pytest.mark.slow
def test_the_page_leads_from_an_environment_to_a_policy(tmp_path: Path) -> None:
    said = carry_out(PAGE.read_text(), tmp_path)
    headings = [
        line
        for line in said.splitlines()
        if line.startswith(("world simulators.", "world my_feed."))
    ]
    assert headings == 3 * ["world simulators.gym.world.GymWorld"] + [
        "world my_feed.world.TensorRadio"
    ]
    assert "(LearnedSimulator)" in said
    assert "(TreeSimulator)" in said
    assert "  error " not in said
    assert "songs listened to" in said
    report = json.loads((tmp_path / "runs/radio/report/report.json").read_text())
    (world,) = [e for e in report["environments"] if e["kind"] == "world"]
    means = {arm: m["listened_per_session"]["mean"] for arm, m in world["arms"].items()}
    assert means["ranker"] > means["random"]  # what was read of the songs and users is worth it


def test_the_check_of_the_page_finds_what_is_wrong(tmp_path: Path) -> None:
    page = PAGE.read_text().replace("self.np_random.random() < appeal", "np.random.rand() < appeal")
    first = "\n".join(
        f"```{'python' if b.path else 'sh'}\n{'# ' + b.path + chr(10) if b.path else ''}{b.text}```"
        for b in blocks(page)[:3]
    )
    with pytest.raises(AssertionError, match="the same generator gives different sessions"):
        carry_out(first, tmp_path)
