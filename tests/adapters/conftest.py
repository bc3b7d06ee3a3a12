"""Names of these tests may be resolved, as an operator would allow a package."""

from __future__ import annotations

import pytest

from recomind.plugins import VARIABLE


@pytest.fixture(autouse=True)
def _allowed(monkeypatch):
    monkeypatch.setenv(VARIABLE, "tests.adapters")
