"""docs/large-catalogues.md works: its blocks are carried out in order, as a reader would."""

from __future__ import annotations

from pathlib import Path

from tests.test_bring_your_own import carry_out

PAGE = Path(__file__).parents[1] / "docs" / "large-catalogues.md"


def test_the_page_leads_from_a_table_to_an_index_that_takes_changes(tmp_path: Path) -> None:
    said = carry_out(PAGE.read_text(), tmp_path)
    assert "version 1 with 20000 items" in said
    assert "searching 20000 items" in said
    assert "version 3 found" in said
