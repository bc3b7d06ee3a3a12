"""Decisions in sessions, and sessions as events."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def in_sessions(decisions: pl.DataFrame, now_ms: int, gap_s: float) -> pl.DataFrame:
    """Decisions with the session that they are in.

    A session goes on under the name that its requests give; where they give none, until the user
    pauses. Adds `session_id`, `position`, `is_over`, `headless` (its beginning is not in the log),
    `begun_ms` and `begun_scorer`. Rows are sorted by session and position.
    """
    keys = ["user_id", "named"]
    placed = decisions.rename({"session_id": "named"})
    placed = placed.sort(*keys, "time_ms", "step", "decision_id")
    pause_s = (pl.col("time_ms").diff() / 1000).over(keys)
    begins = pause_s.is_null() | ((pause_s > gap_s) & (pl.col("named") == ""))
    placed = placed.with_columns(session_id=begins.cast(pl.Int64).cum_sum() - 1)
    ended_ms = pl.col("time_ms").max().over("session_id")
    return placed.with_columns(
        position=pl.int_range(pl.len(), dtype=pl.Int32).over("session_id"),
        is_over=(now_ms - ended_ms) / 1000 > gap_s,
        headless=pl.col("step").first().over("session_id") > 0,
        begun_ms=pl.col("time_ms").first().over("session_id"),
        begun_scorer=pl.col("scorer").first().over("session_id"),
    )


def up_to_the_gap(joined: pl.DataFrame, *, unseen_ends: bool) -> pl.DataFrame:
    """Each session before the first of its decisions that nothing is known of.

    Adds `left` and `left_known`. The last outcome may say whether the user left (`left_said`);
    where it does not, a session that is over has ended there. The end of one that is cut is
    unknown; with `unseen_ends` it is an end where nothing is known of all later decisions either.
    """
    in_session = "session_id"
    num_open = pl.col("is_open").cast(pl.Int32).cum_sum().over(in_session)
    last_known = pl.col("position").filter(~pl.col("is_open")).max().over(in_session)
    first_open = pl.col("position").filter("is_open").min().over(in_session)
    only_last = first_open > last_known
    is_whole = first_open.is_null() | (only_last if unseen_ends else pl.lit(value=False))
    kept = joined.with_columns(num_open=num_open, is_whole=is_whole).filter(num_open == 0)
    is_last = pl.int_range(pl.len()).over(in_session) == pl.len().over(in_session) - 1
    end_known = pl.col("left_said").fill_null(pl.col("is_over")) & pl.col("is_whole")
    return kept.with_columns(left=is_last & end_known, left_known=~is_last | end_known)


def as_events(
    kept: pl.DataFrame, tasks: Sequence[str], names: Sequence[str], snapshot: int
) -> pl.DataFrame:
    """Rows of a sessions artifact, with `decision_id`; each session has a timeline of its own.

    Time passes as the requests say (`gap_s`), and by the service's clock where they do not.
    """
    clock_ms = pl.col("time_ms").diff().fill_null(0).over("session_id")
    told_ms = (pl.col("gap_s") * 1000).round().cast(pl.Int64)
    passed_ms = pl.when(pl.col("position") == 0).then(0)
    passed_ms = passed_ms.when(pl.col("gap_s") > 0).then(told_ms).otherwise(clock_ms)
    timed = kept.with_columns(
        (pl.col("begun_ms") + passed_ms.cum_sum().over("session_id")).alias("time_ms"),
        pl.col("log_propensity").exp().alias("propensity"),
    )
    both = [_history(timed, tasks), timed]
    features = [
        pl.col("user_features").list.get(place).cast(pl.Float32).alias(f"u_{name}")
        for place, name in enumerate(names)
    ]
    columns = [
        pl.col("session_id").alias("history_id"),
        "session_id",
        pl.col("position").cast(pl.Int32),
        "user_id",
        "time_ms",
        "item_id",
        pl.col("dwell_s").cast(pl.Float32),
        "left",
        "left_known",
        "propensity",
        pl.when(pl.col("position") < 0)
        .then(pl.lit("history"))
        .otherwise(pl.lit("train"))
        .alias("split"),
        pl.lit(value=False).alias("holdout"),
        pl.lit(snapshot, dtype=pl.Int32).alias("snapshot"),
        *(pl.col(task).cast(pl.UInt8) for task in tasks),
        *features,
        "decision_id",
    ]
    return pl.concat([part.select(columns) for part in both])


def _history(timed: pl.DataFrame, tasks: Sequence[str]) -> pl.DataFrame:
    """What the first request of each session said had been before, at position -1."""
    first = timed.filter(pl.col("position") == 0, pl.col("history_item_id").list.len() > 0)
    of_history = ["history_item_id", "history_feedback", "history_dwell_s", "history_gap_s"]
    events = first.explode(of_history)
    next_gap_s = pl.col("history_gap_s").shift(-1).over("session_id").cast(pl.Float64)
    before_ms = (
        (next_gap_s.fill_null(pl.col("gap_s")) * 1000)
        .round()
        .cast(pl.Int64)
        .cum_sum(reverse=True)
        .over("session_id")
    )
    return events.with_columns(
        pl.lit(-1).alias("position"),
        (pl.col("time_ms") - before_ms).alias("time_ms"),
        pl.col("history_item_id").alias("item_id"),
        pl.col("history_dwell_s").alias("dwell_s"),
        pl.lit(value=False).alias("left"),
        pl.lit(value=False).alias("left_known"),
        pl.lit(None, dtype=pl.Float64).alias("propensity"),
        pl.lit(None, dtype=pl.String).alias("decision_id"),
        *(
            pl.col("history_feedback").list.get(h).cast(pl.UInt8).alias(task)
            for h, task in enumerate(tasks)
        ),
    )
