"""A log in partitions, by whichever engine, gives the rows of the whole, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from recomind.artifacts import Manifest, read_manifest
from recomind.data import Logs, make_source, sessions, write_sessions
from recomind.data.describe import describe
from recomind.data.sources.table import engine, prepare
from recomind.errors import RecomindError
from tests.data.feed import feed_log, feed_settings, write_feed

GRAIN, NUM_USERS = 32, 40
DAY = "CAST(FLOOR(ts / 86400000) AS BIGINT)"


@pytest.fixture(autouse=True)
def small_grains(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (engine, prepare):
        monkeypatch.setattr(module, "GRAIN", GRAIN)


def shuffled(log: pl.DataFrame) -> pl.DataFrame:
    """Users, ties, repeats and gaps in propensities, in no order."""
    rng = np.random.default_rng(3)
    user = pl.Series([f"user-{u}" for u in rng.integers(0, NUM_USERS, log.height)])
    log = log.with_columns(user.alias("uid"), ts=pl.col("ts") // 600_000 * 600_000)
    log = log.with_columns(p_logged=pl.when(pl.col("clicked") == 1).then(pl.col("p_logged")))
    return pl.concat([log, log.head(25)]).sample(fraction=1.0, shuffle=True, seed=4)


def read(folder: Path, **changes: Any) -> Logs:
    users = {"max_unknown": 1.0}
    return make_source(feed_settings(folder, users=users, **changes)).read()


def require_equal(parts: Logs, whole: Logs) -> None:
    assert isinstance(whole.frame, pl.DataFrame)
    assert isinstance(parts.frame, pl.LazyFrame), "it was small enough for memory"
    assert_frame_equal(parts.frame.collect(), whole.frame, check_exact=True)
    assert (parts.facts, parts.notes, parts.tasks) == (whole.facts, whole.notes, whole.tasks)
    assert torch.equal(parts.catalogue.dense_DNF, whole.catalogue.dense_DNF)  # pyright: ignore
    for name, table in whole.tables.items():
        assert_frame_equal(parts.tables[name], table)


SETTINGS: dict[str, dict[str, Any]] = {
    "by gap": {},
    "with propensities": {"log": {"propensity": "p_logged"}, "density": 0.0},
    "by a column": {"sessions": {"column": f"concat(uid, '/', {DAY})"}},
    "by a timeline": {"sessions": {"timeline": "uid"}},
    "gaps in a number of the context": {
        "context": ["surface", {"load": "p_logged * read_seconds"}]
    },
    "without rates": {"rates": None},
    "repeats kept": {"log": {"duplicates": "keep"}},
    "not standardised": {"standardise": False},
}


@pytest.mark.parametrize(
    ("name", "num"), [*((name, GRAIN) for name in SETTINGS), ("by gap", 3 * GRAIN)]
)
def test_rows_of_partitions_are_those_of_the_whole(name: str, num: int, tmp_path: Path) -> None:
    write_feed(tmp_path, log=shuffled)
    whole = read(tmp_path, **SETTINGS[name])
    parts = read(tmp_path, partition_events=num, spill=str(tmp_path / "spill"), **SETTINGS[name])
    require_equal(parts, whole)
    assert any((tmp_path / "spill").rglob("*.parquet")), "nothing went through files"
    del parts
    assert not list((tmp_path / "spill").iterdir()), "files outlive the logs"


@pytest.mark.parametrize("batch", [7, 1000])
def test_the_artifact_of_partitions_is_that_of_the_whole(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_BATCH_EVENTS", batch)
    write_feed(tmp_path, log=shuffled)
    written = {}
    for name, num in (("whole", 1000), ("parts", GRAIN)):
        logs = read(tmp_path, partition_events=num, sessions={"gap": "12h"})
        manifest = Manifest(kind="sessions")
        write_sessions(
            tmp_path / name,
            logs.frame,
            logs.catalogue,
            tasks=logs.tasks,
            manifest=manifest,
            extra=logs.facts,
        )
        written[name] = read_manifest(tmp_path / name, "sessions").extra
    assert written["parts"] == written["whole"]
    frames = [pl.read_parquet(tmp_path / name / "sessions.parquet") for name in written]
    assert_frame_equal(*frames, check_exact=True)


def test_a_session_of_users_in_two_partitions_is_refused(tmp_path: Path) -> None:
    write_feed(tmp_path, log=shuffled)
    user = "CASE WHEN uid IN ('user-0', 'user-39') THEN 'both' ELSE uid END"
    with pytest.raises(RecomindError, match=r"is shared by users.*events of several users"):
        read(tmp_path, partition_events=GRAIN, sessions={"column": user})


def test_a_row_far_from_the_others_is_named_whichever_batch_it_is_in(tmp_path: Path) -> None:
    far = pl.when(pl.int_range(pl.len()) == 205).then(915_148_800_000).otherwise("ts")
    write_feed(tmp_path, log=lambda log: log.with_columns(ts=far))
    said = []
    for num in (1000, GRAIN):
        with pytest.raises(RecomindError, match=r"1999-01-01 .* row 205") as caught:
            read(tmp_path, partition_events=num)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_logs_in_partitions_can_be_described(tmp_path: Path) -> None:
    write_feed(tmp_path, log=shuffled)
    parts, whole = (describe(read(tmp_path, partition_events=num)) for num in (GRAIN, 1000))
    assert parts.facts == whole.facts


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_ray_gives_the_same_rows(tmp_path: Path) -> None:
    write_feed(tmp_path, log=shuffled)
    parts = read(tmp_path, engine="ray", partition_events=2 * GRAIN, spill=str(tmp_path / "spill"))
    require_equal(parts, read(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_mistake_is_told_by_ray_as_by_one_process(tmp_path: Path) -> None:
    write_feed(tmp_path, log=lambda log: log.with_columns(part=pl.lit("dev")))
    said = []
    for name in ("local", "ray"):
        with pytest.raises(RecomindError, match=r"an unknown split") as caught:
            read(tmp_path, engine=name, partition_events=GRAIN, splits={"column": "part"})
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "spark"}, "unknown data.engine 'spark'"),
        ({"partition_events": 3}, "data.partition_events is out of range"),
    ],
)
def test_settings_of_scale(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RecomindError, match=message):
        make_source(feed_settings(write_feed(tmp_path), **settings))


def test_the_log_of_the_tests_is_larger_than_a_partition() -> None:
    assert shuffled(feed_log()).height > 9 * GRAIN
