"""Names that have moved are found where they were, with a warning."""

from __future__ import annotations

import importlib

import pytest

from recomind.moved import moved_module

MOVED = [
    ("recomind.ranker.adapters", "recomind.adapters", "RowBatch"),
    ("recomind.ranker.adapters", "recomind.adapters", "StateBatch"),
    ("recomind.ranker.adapters.dlrm", "recomind.adapters.dlrm", "dlrm_inputs"),
    ("recomind.ranker.check", "recomind.checks", "check_ranker"),
    ("recomind.ranker.check", "recomind.checks", "Finding"),
]


@pytest.mark.parametrize(("old", "new", "name"), MOVED)
def test_an_old_name_is_the_new_one(old: str, new: str, name: str) -> None:
    with pytest.warns(FutureWarning, match="is now recomind"):
        found = getattr(importlib.import_module(old), name)
    assert found is getattr(importlib.import_module(new), name)


def test_a_name_that_is_nowhere_is_said_to_be_missing() -> None:
    look_up = moved_module("shop.old", "recomind.adapters")
    with pytest.raises(AttributeError, match=r"'shop\.old' has no attribute 'Nothing'"):
        look_up("Nothing")
