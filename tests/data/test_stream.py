from __future__ import annotations

import gc
import itertools
import weakref
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from recomind.artifacts import Manifest
from recomind.data import SessionDataset, SessionSource, SessionStream, sessions, write_sessions
from recomind.data import stream as stream_module
from recomind.data.sessions import EVENTS, SPLITS
from recomind.errors import ArtifactError, ConfigError
from tests.data.conftest import small_catalogue, small_events

TASKS = ("click", "hide")
LENGTH = 5


def write(folder: Path, events: pl.DataFrame, tasks: tuple[str, ...] = TASKS) -> Path:
    write_sessions(
        folder, events, small_catalogue(), tasks=tasks, manifest=Manifest(kind="sessions")
    )
    return folder


@pytest.fixture(scope="module")
def rounds(tmp_path_factory) -> list[Path]:
    """Four rounds with the same ids, the first two alike; one timeline is longer than others."""
    folder = tmp_path_factory.mktemp("rounds")
    frames = [small_events(seed, size) for seed, size in enumerate((40, 1, 25))]
    frames[0] = pl.concat([frames[0].filter(pl.col("history_id") < 88), long_timeline(88, 70)])
    frames.insert(0, frames[0])
    return [write(folder / f"round-{i}", frame) for i, frame in enumerate(frames)]


def long_timeline(history_id: int, num_events: int) -> pl.DataFrame:
    """One session of `num_events` events."""
    one = small_events(9, 1).filter(pl.col("position") == 0).head(1)
    return pl.concat([one] * num_events).with_columns(
        history_id=pl.lit(history_id, pl.Int64),
        session_id=pl.lit(10_000, pl.Int64),
        user_id=pl.lit(10_000, pl.Int64),
        position=pl.int_range(num_events, dtype=pl.Int32),
        time_ms=pl.int_range(num_events, dtype=pl.Int64) * 1000,
        item_id=pl.int_range(num_events, dtype=pl.Int64) % 10,
        left=pl.int_range(num_events) == num_events - 1,
    )


@pytest.fixture(params=[7, 64, 100_000])
def window(request, monkeypatch) -> int:
    """Events read at once while a log is cut: timelines may span windows, or windows them."""
    monkeypatch.setattr(stream_module, "_WINDOW_EVENTS", request.param)
    return request.param


def keys(dataset: SessionDataset, rows: torch.Tensor) -> list[tuple[int, int, int]]:
    """(round, session, step) of impressions, whatever block they were read in."""
    columns = (dataset.round_index(rows), dataset.session_key(rows), dataset.state(rows).step)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def facts(dataset: SessionDataset, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """All that a reader can ask about impressions, states before and after them included."""
    names = ("item_id", "labels", "dwell_s", "left", "left_known", "snapshot", "round_index")
    found = {name: getattr(dataset, name)(rows) for name in names}
    found["propensity"] = dataset.propensity(rows).nan_to_num(nan=-1.0)
    for name, state in (("before", dataset.state(rows)), ("after", dataset.next_state(rows))):
        found |= {f"{name}.{field}": value for field, value in state.items()}
    return found


@pytest.mark.parametrize("generator", [None, 3, 4])
@pytest.mark.parametrize("max_block_events", [1, 17, 60, 250])
def test_blocks_hold_what_the_whole_log_holds(rounds, window, max_block_events, generator):
    whole = SessionDataset.load(rounds, LENGTH)
    every = keys(whole, whole.rows())
    place = dict(zip(every, whole.rows().tolist(), strict=True))
    seen = []
    order = None if generator is None else torch.Generator().manual_seed(generator)
    for block in SessionStream.open(rounds, LENGTH, max_block_events).blocks(order):
        rows = block.rows()
        seen += keys(block, rows)
        places = torch.tensor([place[key] for key in keys(block, rows)])
        assert places.tolist() == sorted(places.tolist())
        same = facts(whole, places)
        for name, value in facts(block, rows).items():
            assert torch.equal(value, same[name]), name
        for split in SPLITS:
            of_split = {place[key] for key in keys(block, block.rows(split))}
            assert of_split == set(places.tolist()) & set(whole.rows(split).tolist())
    assert len(place) == len(every) == len(seen)
    assert seen == every if generator is None else sorted(seen) == sorted(every)


def num_timelines(block: SessionDataset) -> int:
    """Timelines of a block; in the small log every one of a round has a user of its own."""
    rows = torch.arange(len(block))
    pairs = torch.stack([block.round_index(rows), block.state(rows).user_id])
    return len(torch.unique(pairs, dim=1).T)


@pytest.mark.parametrize("generator", [None, 0, 1])
@pytest.mark.parametrize("max_block_events", [1, 8, 60, 69, 250])
def test_no_block_is_longer_than_asked_but_for_one_long_timeline(
    rounds, window, max_block_events, generator
):
    order = None if generator is None else torch.Generator().manual_seed(generator)
    blocks = list(SessionStream.open(rounds, LENGTH, max_block_events).blocks(order))
    assert sum(len(block) for block in blocks) == len(SessionDataset.load(rounds, LENGTH))
    for block in blocks:
        assert len(block) <= max_block_events or num_timelines(block) == 1
    if max_block_events >= 100:  # long enough for chunks that leave little room
        assert max(len(block) for block in blocks) > 0.8 * max_block_events
        for one, other in itertools.pairwise(blocks):
            assert len(one) + len(other) > max_block_events


def order_of(stream: SessionStream, seed: int) -> list[int]:
    blocks = stream.blocks(torch.Generator().manual_seed(seed))
    return [key for block in blocks for key in block.session_key(block.rows()).tolist()]


def test_the_order_is_the_generators(rounds):
    stream = SessionStream.open(rounds, LENGTH, 60)
    again = SessionStream.open(rounds, LENGTH, 60)
    assert order_of(stream, 0) == order_of(stream, 0) == order_of(again, 0)
    assert order_of(stream, 0) != order_of(stream, 1)
    assert set(order_of(stream, 0)) == set(order_of(stream, 1))


def test_a_shuffled_block_mixes_rounds_and_places(rounds):
    stream = SessionStream.open(rounds, LENGTH, 150)
    mixed = [
        len(set(block.round_index(block.rows()).tolist())) > 1
        for seed in range(5)
        for block in stream.blocks(torch.Generator().manual_seed(seed))
    ]
    assert sum(mixed) > len(mixed) / 2


def test_a_log_that_fits_one_block_is_read_once(rounds, tmp_path):
    folder = write(tmp_path / "sessions", small_events())
    stream = SessionStream.open([folder], LENGTH, 1000)
    generator = torch.Generator().manual_seed(0)
    (block,) = stream.blocks(generator)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())
    (folder / EVENTS).unlink()
    assert next(iter(stream.blocks())) is block
    expected = small_events().filter(pl.col("position") >= 0)["item_id"].to_list()
    assert block.item_id(block.rows()).tolist() == expected


def test_a_longer_log_is_not_kept(rounds):
    stream = SessionStream.open(rounds, LENGTH, 60)
    blocks = [weakref.ref(block) for block in stream.blocks()]
    gc.collect()
    assert len(blocks) > 3
    assert [block() for block in blocks] == [None] * len(blocks)


def test_impressions_are_counted_without_reading_blocks(rounds, window):
    whole, stream = SessionDataset.load(rounds, LENGTH), SessionStream.open(rounds, LENGTH, 60)
    for splits in [(), ("train",), ("train", "test"), ("calibration",), ("history",)]:
        for holdout in (None, True, False):
            expected = len(whole.rows(*splits, holdout=holdout))
            assert stream.num_rows(*splits, holdout=holdout) == expected
            assert whole.num_rows(*splits, holdout=holdout) == expected
    assert 0 < stream.num_rows("train", holdout=True) < stream.num_rows("train")
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        stream.num_rows("trian")


def test_session_keys_tell_sessions_and_rounds_apart(rounds):
    whole = SessionDataset.load(rounds, LENGTH)
    rows = whole.rows()
    key, index = whole.session_key(rows).numpy(), whole.session_index(rows).numpy()
    assert len(np.unique(key)) == len(np.unique(index)) == len(whole.session_starts())
    assert len(np.unique(np.stack([key, index]), axis=1).T) == len(np.unique(key))
    alone = SessionDataset.load(rounds[3:], LENGTH)
    assert not set(alone.session_key(alone.rows()).tolist()) & set(key[-alone.num_rows() :])
    assert whole.session_key(rows.flip(0)).tolist() == key[::-1].tolist()


def test_both_sources_say_the_same_of_the_log(rounds):
    found: list[SessionSource] = [
        SessionDataset.load(rounds, LENGTH),
        SessionStream.open(rounds, LENGTH, 60),
    ]
    said = [
        (
            source.tasks,
            source.user_feature_names,
            source.num_user_features,
            source.history_length,
            source.catalogue.num_items,
            sum(block.num_rows() for block in source.blocks()),
        )
        for source in found
    ]
    assert said[0] == said[1]
    assert next(iter(found[0].blocks())) is found[0]


def test_a_written_log_can_be_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "ROW_GROUP_EVENTS", 10)
    folder = write(tmp_path / "sessions", small_events(0, 20))
    metadata = pq.ParquetFile(folder / EVENTS).metadata
    sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert len(sizes) > 3
    assert max(sizes) <= 10


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"folders": []}, ConfigError, "no sessions to load"),
        ({"history_length": 0}, ConfigError, "history_length is out of range; got: 0"),
        ({"max_block_events": 0}, ConfigError, "max_block_events is out of range; got: 0"),
        ({"folders": [Path("nothing")]}, ArtifactError, "no sessions here"),
    ],
)
def test_settings_out_of_range_are_refused(rounds, settings, error, message):
    given = {"folders": rounds, "history_length": LENGTH} | settings
    with pytest.raises(error, match=message):
        SessionStream.open(**given)


def test_rounds_that_do_not_fit_together_or_are_damaged_are_refused(tmp_path):
    folders = [write(tmp_path / "0", small_events())]
    folders.append(write(tmp_path / "1", small_events().drop("hide"), ("click",)))
    with pytest.raises(ArtifactError, match=r"differ in tasks; got: \['click'\]"):
        SessionStream.open(folders, LENGTH)
    (folders[0] / EVENTS).write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="damaged artifact"):
        SessionStream.open(folders[:1], LENGTH)
