from __future__ import annotations

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from recomind.data import DataConfig, DataSource
from recomind.errors import ConfigError


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"session_gap_hours": 0.0}, "data.session_gap_hours"),
        ({"session_gap_hours": float("nan")}, "data.session_gap_hours"),
        ({"holdout_share": 1.0}, "data.holdout_share"),
        ({"holdout_share": -0.1}, "data.holdout_share"),
        ({"user_smoothing": 0.0}, "data.user_smoothing"),
        ({"item_smoothing": -1.0}, "data.item_smoothing"),
        ({"author_buckets": 0}, "data.author_buckets"),
        ({"test_from": "3 May"}, "data.test_from is not a day"),
        ({"calibration_from": "20220503"}, "data.calibration_from is not a day"),
        (
            {"calibration_from": "2022-05-03", "test_from": "2022-05-03"},
            "calibration must come before test",
        ),
    ],
)
def test_a_setting_out_of_range_is_named(setting, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(**setting)


def test_hydra_can_hold_it_and_reads_the_source_as_written_in_yaml():
    ConfigStore.instance().store(name="data_config_of_test", node=DataConfig)
    merged = OmegaConf.merge(OmegaConf.structured(DataConfig), {"source": "kuairand"})
    assert OmegaConf.to_object(merged) == DataConfig(source=DataSource.kuairand)
