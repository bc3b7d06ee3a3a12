"""docs/tune.md works: its blocks are carried out in order, as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_bring_your_own import carry_out

PAGE = Path(__file__).parents[1] / "docs" / "tune.md"


@pytest.mark.page
@pytest.mark.slow
@pytest.mark.own_ray
def test_the_page_tunes_with_asha_and_pbt(tmp_path: Path) -> None:
    page = PAGE.read_text().replace("/tmp/recomind", str(tmp_path / "tuning"))
    said = carry_out(page, tmp_path)
    assert "asha: 2 trials, 0 errors" in said
    assert "pbt: 2 trials, 0 errors" in said
    best = re.search(r"asha best: {'learning_rate': (\S+), 'n_step': ([13])} (\S+)", said)
    assert best is not None
    assert 1e-4 <= float(best[1].rstrip(",")) <= 1e-2
    assert float(best[3]) > 0.0
    assert list((tmp_path / "tuning" / "asha").glob("SessionDQN_*/events.out.tfevents.*"))
