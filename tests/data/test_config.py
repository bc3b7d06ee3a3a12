from __future__ import annotations

import pytest

from recomind.data import collected_logs, make_source, reads_logs
from recomind.data.sources.kuairand import KuaiRand
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
        KuaiRand(root="raw", **setting)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "kuairnd"}, "unknown data.source 'kuairnd': did you mean 'kuairand'"),
        ({"source": "kuairand"}, r"settings without a value; got: \['data.root'\]"),
        ({"source": "kuairand", "rot": "raw"}, "unknown setting 'data.rot': did you mean 'root'"),
        ({"source": "kuairand", "root": "raw", "author_buckets": "many"}, "data.author_buckets: "),
        ({"source": "os.path.join"}, "outside the allowed prefixes"),
        ({"source": "recomind.data.SessionDataset"}, "is no source of logs"),
        ({"source": "world"}, "prepare-data reads raw logs"),
        ({"source": "recomind.data.sources.kuairand.KuaiRnd"}, "cannot be imported"),
    ],
)
def test_a_source_that_cannot_be_made(data, message):
    with pytest.raises(ConfigError, match=message):
        make_source(data)


def test_a_source_is_made_from_its_name_or_its_dotted_path():
    made = KuaiRand(root="raw", holdout_share=0.5)
    dotted = "recomind.data.sources.kuairand.KuaiRand"
    assert make_source({"source": "kuairand", "root": "raw", "holdout_share": 0.5}) == made
    assert make_source({"_target_": dotted, "root": "raw", "holdout_share": 0.5}) == made


def test_logs_of_a_world_are_collected():
    assert not reads_logs({})
    assert collected_logs({"source": "world", "holdout_share": 0.5}).holdout_share == 0.5
    with pytest.raises(ConfigError, match=r"data\.holdout_share is out of range"):
        collected_logs({"holdout_share": 2})
