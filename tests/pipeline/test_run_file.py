"""A run that is read back has the settings that it ran with."""

from __future__ import annotations

from pathlib import Path

from recomind.config import resolve
from recomind.pipeline.run_file import claim, read_config
from tests.cli.test_config import composed


def test_a_reward_of_its_own_is_not_merged_with_the_default_one(tmp_path: Path):
    config = resolve(composed("world=suite/boredom"))
    config.gate.tolerances = {"session_depth": 0.1}
    claim(tmp_path, config)
    again = read_config(tmp_path)
    assert again.ranker.utility_weights == {"liked": 1.0}
    assert again.gate.tolerances == {"session_depth": 0.1}
