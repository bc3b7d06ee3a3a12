"""docs/extending.md works: five toy plug-ins, added as the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from recomind.artifacts import read_manifest
from tests.test_bring_your_own import blocks, carry_out

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
ADDED = ("my_shop/feed.py", "my_shop/world.py", "my_shop/algorithm.py", "my_shop/formats.py")


def test_each_plug_in_is_one_file() -> None:
    files = [block.path for block in blocks(PAGE.read_text()) if block.path.startswith("my_shop/")]
    assert tuple(files) == ADDED


@pytest.mark.page
@pytest.mark.slow
def test_the_page_adds_five_plug_ins(tmp_path: Path) -> None:
    said = carry_out(PAGE.read_text(), tmp_path)
    sessions = tmp_path / "runs/feed/round_0/sessions"
    assert read_manifest(sessions, "sessions").extra["tasks"] == ["clicked"]
    assert "world my_shop.world.ImpatientFeed" in said
    assert "  error " not in said
    assert "algorithm: Cautious" in said
    assert "format: arrays" in said
    assert "metric: {'mean': 0." in said
