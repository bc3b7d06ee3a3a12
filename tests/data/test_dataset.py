from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recomind.artifacts import Manifest
from recomind.data import SessionDataset, TableCatalogue, write_sessions
from recomind.data.dataset import _matrix
from recomind.data.sessions import checked_events
from recomind.errors import ArtifactError, ConfigError, SchemaError
from tests.data.conftest import small_catalogue, small_events

TASKS = ("click", "hide")


def test_a_matrix_of_one_column_is_a_copy():
    frame = pl.DataFrame({"a": [1.0, 2.0]}, schema={"a": pl.Float32})
    matrix = _matrix(frame, ["a"], np.float32)
    matrix[0] = 5.0
    assert matrix.tolist() == [[5.0], [2.0]]
    assert frame["a"].to_list() == [1.0, 2.0]


def in_memory(events: pl.DataFrame, history_length: int) -> SessionDataset:
    frame = checked_events(events, small_catalogue(), tasks=TASKS)
    return SessionDataset(
        frame.with_columns(round_index=pl.lit(0, dtype=pl.Int64)),
        small_catalogue(),
        tasks=TASKS,
        user_feature_names=["age", "rate"],
        history_length=history_length,
    )


def at_odd_times(events: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Timelines that begin at any time; events follow within a blink, seconds or days."""
    rng = np.random.default_rng(seed)
    since_ms = pl.Series("time_ms", rng.choice([1, 12_345, 260_000_017], events.height))
    return events.with_columns(since_ms).with_columns(
        pl.col("time_ms").cum_sum().over("history_id")
    )


def naive_gaps(events: list[dict], row: int, length: int, *, after: bool) -> list[float]:
    """Seconds [length] before each event of `naive_history`, then those before the decision."""
    timeline = events[row]["history_id"]
    earlier = [e for e in events[: row + after] if e["history_id"] == timeline]
    times_ms = [e["time_ms"] for e in earlier]
    gaps = [0.0] + [(b - a) / 1000 for a, b in pairwise(times_ms)]
    now = (events[row]["time_ms"] - times_ms[-1]) / 1000 if earlier else 0.0
    history = ([0.0] * length + gaps[: len(earlier)])[-length:]
    return [*history, events[row]["dwell_s"] if after else now]


def naive_history(events: list[dict], row: int, length: int, *, after: bool) -> list[dict | None]:
    """The last `length` events of the row's timeline before (or up to) it, padded on the left."""
    timeline = events[row]["history_id"]
    earlier = [e for e in events[: row + after] if e["history_id"] == timeline]
    return ([None] * length + earlier)[-length:]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 9), after=st.booleans())
def test_states_equal_those_of_a_loop_over_events(seed, length, after):
    frame = at_odd_times(small_events(seed, num_timelines=5), seed)
    dataset, events = in_memory(frame, length), frame.to_dicts()
    rows = dataset.rows()
    state = dataset.next_state(rows) if after else dataset.state(rows)
    for index, row in enumerate(rows.tolist()):
        past = naive_history(events, row, length, after=after)
        assert state.history_mask[index].tolist() == [e is not None for e in past]
        assert state.history_item_id[index].tolist() == [e["item_id"] if e else 0 for e in past]
        assert state.history_dwell_s[index].tolist() == [e["dwell_s"] if e else 0 for e in past]
        assert state.history_feedback[index].tolist() == [
            [bool(e[task]) if e else False for task in TASKS] for e in past
        ]
        gaps = [*state.history_gap_s[index].tolist(), state.gap_s[index].item()]
        expected = naive_gaps(events, row, length, after=after)
        assert gaps == np.array(expected, np.float32).tolist()
        assert state.step[index] == events[row]["position"] + after
        assert state.user_id[index] == events[row]["user_id"]
        torch.testing.assert_close(
            state.user_features[index], torch.tensor([events[row]["u_age"], events[row]["u_rate"]])
        )


def test_the_columns_that_belong_to_the_session_are_those_the_step_counts():
    frame = small_events(3)
    dataset = in_memory(frame, 8)
    rows = dataset.rows()
    source = rows[:, None] + torch.arange(-8, 0)
    same = dataset.session_index(source.clamp(min=0)) == dataset.session_index(rows)[:, None]
    in_log = torch.from_numpy(frame["position"].to_numpy().copy())[source.clamp(min=0)] >= 0
    assert torch.equal(dataset.state(rows).in_session, same & in_log & (source >= 0))


def test_rows_are_chosen_by_split_and_holdout_and_never_precede_the_log():
    frame = small_events(1).with_row_index("row")
    dataset = in_memory(frame.drop("row"), 4)

    def expected(condition):
        return frame.filter((pl.col("position") >= 0) & condition)["row"].to_list()

    held = pl.col("holdout")
    assert dataset.rows().tolist() == expected(True)
    assert dataset.rows("test").tolist() == expected(pl.col("split") == "test")
    assert dataset.rows("train", "test", holdout=True).tolist() == expected(held)
    assert dataset.rows("train", holdout=False).tolist() == expected(
        (pl.col("split") == "train") & ~held
    )
    assert dataset.rows("history").tolist() == []
    starts = expected((pl.col("position") == 0) & (pl.col("split") == "train"))
    assert dataset.session_starts("train").tolist() == starts


def test_outcomes_are_those_of_the_rows():
    frame = small_events(2)
    dataset = in_memory(frame, 4)
    rows = torch.arange(frame.height).flip(0)
    reverse = frame.reverse()
    assert dataset.item_id(rows).tolist() == reverse["item_id"].to_list()
    assert dataset.labels(rows).tolist() == [list(x) for x in reverse.select(TASKS).rows()]
    assert dataset.labels(rows).dtype == torch.float32
    assert dataset.dwell_s(rows).tolist() == reverse["dwell_s"].to_list()
    assert dataset.left(rows).tolist() == reverse["left"].to_list()
    assert dataset.left_known(rows).tolist() == reverse["left_known"].to_list()
    assert dataset.snapshot(rows).tolist() == reverse["snapshot"].to_list()
    unknown = dataset.propensity(rows).isnan()
    assert unknown.tolist() == reverse["propensity"].is_null().to_list()
    assert (dataset.propensity(rows)[~unknown] == 0.25).all()


@pytest.fixture
def rounds(tmp_path):
    for index in range(2):
        write_sessions(
            tmp_path / f"round-{index}",
            small_events(index),
            small_catalogue(),
            tasks=TASKS,
            manifest=Manifest(kind="sessions"),
        )
    return [tmp_path / "round-0", tmp_path / "round-1"]


def test_rounds_are_joined_without_mixing_their_timelines(rounds):
    both = SessionDataset.load(rounds, 6)
    parts = [SessionDataset.load([folder], 6) for folder in rounds]
    first, second = (part.rows() for part in parts)
    shifted = second + len(parts[0])
    assert both.rows().tolist() == [*first.tolist(), *shifted.tolist()]
    assert (both.state(shifted) == parts[1].state(second)).all()
    assert set(both.round_index(first).tolist()) == {0}
    assert set(both.round_index(shifted).tolist()) == {1}
    assert both.session_index(first).max() < both.session_index(shifted).min()
    assert both.num_user_features == 2
    assert both.tasks == TASKS


def test_rounds_with_other_tasks_are_refused(rounds):
    write_sessions(
        rounds[1],
        small_events().drop("hide"),
        small_catalogue(),
        tasks=["click"],
        manifest=Manifest(kind="sessions"),
    )
    with pytest.raises(ArtifactError, match=r"differ in tasks; got: \['click'\]"):
        SessionDataset.load(rounds, 6)


def test_a_catalogue_may_grow_between_rounds_and_not_shrink(rounds):
    grown = TableCatalogue(
        torch.zeros(small_catalogue().num_snapshots, small_catalogue().num_items + 3, 1),
        torch.zeros(small_catalogue().num_items + 3, 0, dtype=torch.int64),
        dense_names=("age",),
        categorical_names=(),
        vocab_sizes=(),
    )
    manifest = Manifest(kind="sessions")
    events = small_events().with_columns(snapshot=pl.lit(0, dtype=pl.Int32))
    write_sessions(rounds[1], events, grown, tasks=TASKS, manifest=manifest)
    assert SessionDataset.load(rounds, 6).catalogue.num_items == grown.num_items
    with pytest.raises(ArtifactError, match="with fewer items than the one before"):
        SessionDataset.load(rounds[::-1], 6)


def test_settings_and_rows_out_of_range_are_refused(rounds):
    with pytest.raises(ConfigError, match="no sessions to load"):
        SessionDataset.load([], 6)
    with pytest.raises(ConfigError, match="history_length"):
        SessionDataset.load(rounds, 0)
    dataset = SessionDataset.load(rounds, 6)
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        dataset.rows("trian")
    with pytest.raises(SchemaError, match="row out of range; got: -1"):
        dataset.state(torch.tensor([-1]))


def test_a_missing_artifact_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="no sessions here"):
        SessionDataset.load([tmp_path / "nothing"], 6)


def test_history_rows_are_those_of_the_states():
    dataset = in_memory(small_events(), 3)
    rows = torch.arange(len(dataset))
    source, state = dataset.history_rows(rows), dataset.state(rows)
    assert torch.equal(source >= 0, state.history_mask)
    items = dataset.item_id(source.clamp(min=0).flatten()).view_as(source)
    assert torch.equal(items * state.history_mask, state.history_item_id)
    assert bool((source[rows >= 0].amax(1) < rows).all())  # nothing of the event itself or later
    assert bool((source >= 0).any())


def test_a_sample_is_all_of_some_timelines(rounds):
    whole = SessionDataset.load(rounds, 6)
    part = SessionDataset.load(rounds, 6, max_events=len(whole) // 2)
    assert 0.2 * len(whole) < len(part) < 0.8 * len(whole)
    lengths = [len(whole.rows()), len(part.rows())]
    keys = [dataset.session_key(dataset.rows()) for dataset in (whole, part)]
    inside = torch.isin(keys[0], keys[1])
    assert lengths[0] > lengths[1] == int(inside.sum())
    assert torch.equal(whole.item_id(whole.rows()[inside]), part.item_id(part.rows()))
    assert len(SessionDataset.load(rounds, 6, max_events=len(whole))) == len(whole)
