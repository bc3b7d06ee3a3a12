"""Damage of every kind to everything that is loaded: one typed error, or a result; never more."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from tests.faults.fuzz.campaign import campaign
from tests.faults.fuzz.mutations import mutated, mutated_value

NUM = int(os.environ.get("FUZZ_NUM", "100"))  # inputs of each of some twenty kinds
SEED = int(os.environ.get("FUZZ_SEED", "0"))


@pytest.mark.slow
def test_damage_is_refused_in_one_typed_error(tmp_path: Path) -> None:
    found = campaign(tmp_path, NUM, SEED)
    assert found["num_inputs"] >= 15 * NUM
    assert not found["faults"], json.dumps(found, indent=2)


def test_damage_is_of_every_sort_and_the_same_from_the_same_seed() -> None:
    content = bytes(range(256)) * 40
    once = [mutated(content, random.Random(seed)) for seed in range(300)]
    assert once == [mutated(content, random.Random(seed)) for seed in range(300)]
    assert any(len(changed) < len(content) for changed in once)
    assert any(len(changed) > len(content) for changed in once)
    assert sum(changed != content for changed in once) > 280


def test_values_change_anywhere_in_a_tree() -> None:
    tree = {"a": {"b": [1, 2, {"c": 3}]}, "d": "e"}
    changed = [mutated_value(tree, random.Random(seed)) for seed in range(300)]
    assert tree == {"a": {"b": [1, 2, {"c": 3}]}, "d": "e"}
    assert any(isinstance(c, dict) and c.get("a", {}) and "b" not in c["a"] for c in changed)
    assert any(not isinstance(value, dict) for value in changed)
