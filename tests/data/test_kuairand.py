from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from recomind.data import TableCatalogue
from recomind.data.sessions import checked_events
from recomind.data.sources.kuairand import KuaiRand
from recomind.data.sources.kuairand.files import HISTORY
from recomind.data.sources.kuairand.source import TASKS
from recomind.errors import ConfigError, SchemaError
from tests.data.conftest import HOUR_MS, START_MS, small_log, small_users, small_videos


def read(root, **settings):
    logs = KuaiRand(root=str(root), **settings).read()
    assert isinstance(logs.catalogue, TableCatalogue)
    return logs.events, logs.catalogue, logs.facts


def users(frame):
    return frame.select(pl.col("^u_.*$"))


def put(column, value, row=7):
    """The small log with one value replaced; a text makes the column text."""

    def change():
        log = small_log()
        values = log[column].to_list()
        values[row] = value
        if isinstance(value, str):
            values = [str(x) for x in values]
        return {"log": log.with_columns(pl.Series(column, values))}

    return change


def video(column, value):
    def change():
        videos = small_videos().cast({column: pl.String})
        return {"videos": videos.with_columns(pl.Series(column, [value, *videos[column][1:]]))}

    return change


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (lambda: {"log": None}, "no log file here.*log_standard_"),
        (lambda: {"users": None}, "a file is missing.*user_features_pure.csv"),
        (lambda: {"videos": None}, "a file is missing.*video_features_basic_pure.csv"),
        (lambda: {"log": small_log().drop("time_ms")}, "'time_ms' is missing from log_standard"),
        (lambda: {"users": small_users().drop("register_days")}, "'register_days' is missing"),
        (lambda: {"videos": small_videos().drop("tag")}, "'tag' is missing from video_features"),
        (
            put("play_time_ms", "soon"),
            r"'play_time_ms' of log_standard.* wrong type; got: 'soon' in row 7.*Int64",
        ),
        (put("play_time_ms", "NaN"), "'play_time_ms'.*wrong type; got: 'NaN' in row 7"),
        (put("time_ms", None), "'time_ms'.*got: None in row 7"),
        (video("upload_dt", "10 April"), "'upload_dt'.*wrong type; got: '10 April' in row 0"),
        (lambda: {"log": small_log().clear()}, "the log log_standard.* is empty"),
        (put("user_id", 12), "'user_id' of the log.*got: 12 in row 7.*user_features_pure"),
        (put("video_id", 20), "'video_id' of the log.*got: 20 in row 7.*video_features_basic"),
        (put("play_time_ms", -1), "'play_time_ms'.*got: -1 in row 7"),
        (put("is_like", 2), "'is_like'.*got: 2 in row 7.*0 or 1"),
        (video("video_duration", "NaN"), "'video_duration'.*got: nan in row 0"),
        (video("video_id", "1"), "'video_id' of video_features.*one row each"),
        (lambda: {"log": small_log().with_columns(time_ms=START_MS)}, "one value only"),
        (
            lambda: {"log": small_log().head(5).with_columns(time_ms=START_MS + pl.int_range(5))},
            "too short to be split by time; got: 1 days",
        ),
    ],
)
def test_bad_files_are_refused_with_what_is_wrong(official, tables, message):
    with pytest.raises(SchemaError, match=message):
        read(official(**tables()))


def test_a_root_that_is_no_folder_is_a_setting_to_mend(tmp_path):
    with pytest.raises(ConfigError, match=r"data.root is not a folder; got: ''"):
        read("")
    with pytest.raises(ConfigError, match=r"data\.root is not a folder"):
        read(tmp_path / "nowhere")


def test_days_that_leave_a_split_empty_are_refused(official):
    with pytest.raises(ConfigError, match=r"no events for train.*2022-04-25 to 2022-05-02"):
        read(official(), calibration_from="2022-04-20", test_from="2022-04-30")
    with pytest.raises(ConfigError, match="no events for calibration, test"):
        read(official(), test_from="2022-06-01")


def test_the_result_is_a_valid_sessions_frame(official):
    frame, catalogue, facts = read(official())
    assert checked_events(frame, catalogue, tasks=TASKS).height == frame.height == 400
    assert facts["num_log_rows"] == 400
    assert catalogue.num_items == 20
    assert catalogue.num_snapshots == 8
    assert facts["user_scaling"]["rate_watch_10s"]["std"] > 0


def test_exact_repeats_are_dropped_and_counted(official):
    log = small_log()
    frame, _, facts = read(official(log=pl.concat([log, log.head(30)])))
    assert (frame.height, facts["num_repeats_dropped"]) == (400, 30)


def test_labels_come_from_play_time_and_flags(official):
    log = small_log().with_columns(play_time_ms=pl.Series([10_000, 10_001] * 200))
    frame, _, _ = read(official(log=log))
    joined = frame.join(log, left_on=["user_id", "time_ms"], right_on=["user_id", "time_ms"])
    assert (joined["watch_10s"] == (joined["play_time_ms"] == 10_001)).all()
    assert (joined["like"] == joined["is_like"]).all()
    assert (joined["hide"] == joined["is_hate"]).all()
    assert set(frame["dwell_s"].round(3)) == {10.0, np.float32(10.001)}


def one_user(hours: list[float]) -> pl.DataFrame:
    """User 0 with events at these hours, user 1 with one event each 12 hours for 8 days."""
    other = [12.0 * i for i in range(16)]
    log = small_log(len(hours) + len(other))
    at = [int(START_MS + h * HOUR_MS) for h in (*hours, *other)]
    return log.with_columns(
        user_id=pl.Series([0] * len(hours) + [1] * len(other)), time_ms=pl.Series(at)
    )


def test_sessions_end_at_gaps_and_are_censored_at_the_end_of_the_log(official):
    root = official(log=one_user([0, 5, 29, 53.1, 60, 170]))
    frame = read(root)[0].filter(pl.col("user_id") == 0)
    assert frame["position"].to_list() == [0, 1, 2, 0, 1, 0]
    assert frame["left"].to_list() == [False, False, True, False, True, False]
    assert frame["left_known"].to_list() == [True, True, True, True, True, False]
    plain = read(root, treat_gap_as_end=False)[0].filter(pl.col("user_id") == 0)
    assert not plain["left"].any()
    assert plain["left_known"].to_list() == [True, True, False, True, False, False]
    hourly = read(root, session_gap_hours=4.0)[0].filter(pl.col("user_id") == 0)
    assert hourly["position"].to_list() == [0] * 6


def test_a_last_session_that_the_log_outlasts_by_a_gap_has_ended(official):
    frame = read(official(log=one_user([0, 5])))[0].filter(pl.col("user_id") == 0)
    assert frame["left"].to_list() == [False, True]
    assert frame["left_known"].to_list() == [True, True]


def test_within_the_last_gap_nothing_is_known_of_leaving(official):
    frame = read(official(log=one_user([150, 170, 171])))[0].filter(pl.col("user_id") == 0)
    assert frame["position"].to_list() == [0, 1, 2]
    assert frame["left_known"].to_list() == [True, False, False]
    assert not frame["left"].any()


def test_days_are_those_of_shanghai_and_splits_follow_them(official):
    frame, _, _ = read(official())
    day = (frame["time_ms"] - START_MS) // (24 * HOUR_MS)
    assert (frame["snapshot"] == day).all()
    expected = ["train"] * 5 + ["calibration"] + ["test"] * 2
    assert frame["split"].to_list() == [expected[d] for d in day]
    frame, _, _ = read(official(), calibration_from="2022-04-28", test_from="2022-05-02")
    assert set(frame.filter(split="calibration")["snapshot"]) == {3, 4, 5, 6}
    assert set(frame.filter(split="test")["snapshot"]) == {7}


def test_users_are_held_out_whole_by_their_id_and_the_seed(official):
    first, _, _ = read(official(), holdout_share=0.5)
    again, _, _ = read(official(), holdout_share=0.5)
    other, _, _ = read(official(), holdout_share=0.5, holdout_seed=1)
    assert first["holdout"].equals(again["holdout"])
    assert not first["holdout"].equals(other["holdout"])
    assert first.group_by("user_id").agg(pl.col("holdout").n_unique())["holdout"].max() == 1
    assert not read(official(), holdout_share=0.0)[0]["holdout"].any()


def test_random_exposures_carry_their_propensity_and_others_none(official):
    random = small_log(50, seed=1).with_columns(is_rand=1, time_ms=pl.col("time_ms") + 1)
    frame, _, facts = read(official(random=random))
    assert facts["num_random_exposures"] == 50
    assert frame["propensity"].drop_nulls().to_list() == [1 / 20] * 50
    assert frame.height == 450


def test_missing_content_gets_the_unknown_id_and_first_tags_count(official):
    _, catalogue, facts = read(official(), author_buckets=16)
    columns = dict(zip(catalogue.categorical_names, catalogue.categorical_NC.T, strict=True))
    words = facts["vocabularies"]["tag"]
    tags = [words[i - 1] if i else None for i in columns["tag"][:4].tolist()]
    assert tags == ["39", "2", None, "7"]
    assert columns["music_type"][:3].tolist() == [2, 1, 0]
    assert columns["video_type"][-2:].tolist() == [1, 2]
    assert int(columns["author"].min()) >= 1
    assert catalogue.vocab_sizes[catalogue.categorical_names.index("author")] == 17


def test_nothing_of_an_event_or_later_reaches_its_features(official):
    """Change every response from a moment on: no earlier feature or snapshot may move."""
    log = small_log()
    moment = START_MS + 5 * 24 * HOUR_MS + 7 * HOUR_MS  # after training, so scalings stay
    later = pl.col("time_ms") >= moment
    flipped = log.with_columns(
        play_time_ms=pl.when(later).then(40_000 - pl.col("play_time_ms")).otherwise("play_time_ms"),
        long_view=pl.when(later).then(1 - pl.col("long_view")).otherwise("long_view"),
    )
    frame, catalogue, _ = read(official(log=log))
    other, changed, _ = read(official(log=flipped))
    earliest_later = frame.filter(later)["time_ms"].min()
    until = pl.col("time_ms") <= earliest_later
    assert_frame_equal(users(frame.filter(until)), users(other.filter(until)))
    assert not users(frame).equals(users(other))
    assert torch.equal(catalogue.dense_DNF[:6], changed.dense_DNF[:6])
    assert (catalogue.dense_DNF[6:] != changed.dense_DNF[6:]).any()


def test_events_of_one_moment_do_not_see_each_other(official):
    log = small_log()
    last = int(log["time_ms"].to_numpy().max())
    batch = log.head(2).with_columns(
        user_id=pl.lit(0, pl.Int64),
        video_id=pl.Series([3, 4]),
        time_ms=pl.lit(last + 60_000),
        play_time_ms=pl.Series([29_000, 0]),
        tab=pl.lit(1, pl.Int64),
    )
    frame, _, _ = read(official(log=pl.concat([log, batch])))
    pair = users(frame.filter((pl.col("user_id") == 0) & (pl.col("time_ms") == last + 60_000)))
    assert pair.height == 2
    assert pair[0].equals(pair[1])


def test_running_rates_equal_those_of_a_loop(official):
    root = official()
    frame, catalogue, facts = read(root, user_smoothing=2.0)
    scaling = facts["user_scaling"]["log_events"]
    seen = frame["u_log_events"].to_numpy() * scaling["std"] + scaling["mean"]
    rows = frame.select("user_id", "time_ms").rows()
    expected = [sum(u == v and s < t for v, s in rows) for u, t in rows]
    np.testing.assert_allclose(np.expm1(seen), expected, atol=1e-3)

    scaling = facts["item_scaling"]["log_exposures_per_day"]
    column = catalogue.dense_names.index("log_exposures_per_day")
    per_day = np.expm1(catalogue.dense_DNF[..., column].numpy() * scaling["std"] + scaling["mean"])
    shown = frame.select("snapshot", "item_id").rows()
    expected = [
        [sum(s < d and i == n for s, i in shown) / max(d, 1) for n in range(20)] for d in range(8)
    ]
    np.testing.assert_allclose(per_day, expected, atol=1e-3)


def write_history(root):
    history = pl.DataFrame(
        {
            "user_id": [0] * 30,
            "pos": range(10, 40),
            "video_id": [3] * 30,
            "long_view": [1] * 20 + [0] * 10,
        }
    )
    history.write_parquet(f"{root}/{HISTORY}")


def test_the_history_file_is_a_prior_that_can_be_declined(official):
    root = official()
    without = read(root)[0]
    write_history(root)
    frame, _, facts = read(root)
    assert facts["history_file_used"]
    scaling = facts["user_scaling"]["log_events_before_log"]
    count = np.expm1(frame["u_log_events_before_log"] * scaling["std"] + scaling["mean"])
    np.testing.assert_allclose(count, np.where(frame["user_id"] == 0, 40, 0), atol=1e-3)
    assert_frame_equal(read(root, use_history_file=False)[0], without)


def test_a_history_file_that_overlaps_with_the_log_is_refused(official):
    root = official(log=small_log().with_columns(time_ms=pl.col("time_ms") - 48 * HOUR_MS))
    write_history(root)
    with pytest.raises(ConfigError, match=r"events that the log holds too.*use_history_file=false"):
        read(root)


@pytest.fixture(scope="module")
def real(kuairand_root):
    began = time.process_time()
    return *read(kuairand_root), time.process_time() - began


def test_the_real_files_load_fast_and_hold_what_their_readme_says(real):
    frame, catalogue, facts, seconds = real
    assert 0.02 < facts["num_repeats_dropped"] / facts["num_log_rows"] < 0.03
    assert 0.36 < frame["watch_10s"].mean() < 0.38
    assert 0.30 < frame["long_view"].mean() < 0.32
    assert 2.5 < frame.height / frame["session_id"].n_unique() < 3.0
    assert catalogue.num_items == 7583
    assert checked_events(frame, catalogue, tasks=TASKS).height == frame.height
    assert seconds < 20  # CPU time of all threads; about 1 s on an idle core


def test_features_of_the_real_files_predict_the_response(real):
    """A linear probe; LightGBM on the same columns reaches .755."""
    frame, catalogue, _, _ = real
    index = [
        torch.from_numpy(frame[n].to_numpy().astype(np.int64)) for n in ("item_id", "snapshot")
    ]
    dense = catalogue.features(*index).dense.numpy()
    x = np.concatenate([users(frame).to_numpy(), dense, np.ones((frame.height, 1))], axis=1)
    y = frame["watch_10s"].to_numpy().astype(np.float64)
    train, test = ((frame["split"] == s).to_numpy() for s in ("train", "test"))
    gram = x[train].T @ x[train] + np.eye(x.shape[1])
    score = x[test] @ np.linalg.solve(gram, x[train].T @ y[train])
    assert 0.74 < area_under_curve(y[test], score) < 0.77  # more would be a leak


def area_under_curve(label, score):
    rank = np.argsort(np.argsort(score)) + 1
    positives = label.sum()
    excess = rank[label == 1].sum() - positives * (positives + 1) / 2
    return excess / (positives * (len(label) - positives))
