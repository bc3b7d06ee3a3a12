"""Outcomes that come later, joined with the decisions that they are of: the next round's logs.

    decisions   d1 user 7, step 0, item 31, propensity .25      (the service's log)
    outcomes    d1 watch_10s 1, dwell_s 9.5                     (the company's, by decision id)
    sessions    session 0, position 0, item 31, propensity .25, watch_10s 1, dwell_s 9.5

A decision without an outcome was not seen, or its outcome is lost: it is left out, and counted. So
a company sends an outcome for every item that was seen, also where nothing was done with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import polars as pl

from recomind.data.validate import require_columns
from recomind.errors import ConfigError, SchemaError


@dataclass(kw_only=True, slots=True)
class JoinConfig:
    """What counts as an outcome of a decision, and what as a session."""

    limit_s: float = 86_400.0  # an outcome that comes later than this is left out
    skew_s: float = 60.0  # by so much an outcome's clock may be behind the service's
    session_gap_s: float = 1800.0  # a longer pause of a user begins a session

    def __post_init__(self) -> None:
        for name in ("limit_s", "skew_s", "session_gap_s"):
            if getattr(self, name) < 0:
                raise ConfigError(f"join.{name}", got=getattr(self, name), expected=">= 0")


@dataclass(kw_only=True, slots=True)
class JoinCounts:
    """What became of decisions and outcomes."""

    decisions: int = 0
    joined: int = 0  # decisions with an outcome
    pending: int = 0  # without one, and still within the limit
    without_outcome: int = 0  # without one, and beyond it
    outcomes: int = 0  # rows
    unknown: int = 0  # without a decision
    late: int = 0  # beyond the time limit
    early: int = 0  # before their decision by more than the skew


def join_outcomes(
    decisions: pl.DataFrame,
    outcomes: pl.DataFrame,
    *,
    tasks: Sequence[str],
    user_feature_names: Sequence[str],
    now_ms: int,
    snapshot: int = 0,
    config: JoinConfig | None = None,
) -> tuple[pl.DataFrame, JoinCounts]:
    """Sessions from the log of decisions and what became of them.

    Args:
        decisions: as `recomind.serving.decisions.read_decisions` gives them.
        outcomes: `decision_id`, `time_ms`, `dwell_s` and the tasks, 0/1 or booleans. Several rows
            of one decision are one outcome: what any of them saw, the longest dwell time.
        tasks: in order.
        user_feature_names: of the decisions' `user_features`, in order.
        now_ms: until when outcomes were collected; a session that may still go on by then has no
            known end.
        snapshot: of the catalogue that was served.
        config: limits.

    Returns:
        Events with the columns of `recomind.data.sessions.SCHEMA`, one a decision that has an
        outcome, all in the split "train"; and the counts.

    Raises:
        SchemaError: a column is absent, a task is neither 0 nor 1, or a dwell time is negative.
    """
    config = config or JoinConfig()
    decisions = decisions.unique("decision_id", keep="first", maintain_order=True)
    outcomes = _checked(outcomes, tasks)
    timed = outcomes.join(
        decisions.select("decision_id", decided_ms="time_ms"), on="decision_id", how="left"
    ).with_columns(after_s=(pl.col("time_ms") - pl.col("decided_ms")) / 1000)
    late, early = pl.col("after_s") > config.limit_s, pl.col("after_s") < -config.skew_s
    counts = JoinCounts(
        decisions=decisions.height,
        outcomes=outcomes.height,
        unknown=timed["decided_ms"].null_count(),
        late=timed.filter(late).height,
        early=timed.filter(early).height,
    )
    kept = timed.filter(pl.col("decided_ms").is_not_null() & ~late & ~early)
    whole = kept.group_by("decision_id").agg(pl.col(*tasks, "dwell_s").max())
    joined = decisions.join(whole, on="decision_id", how="left")
    is_open = pl.col("dwell_s").is_null()
    is_young = (now_ms - pl.col("time_ms")) / 1000 <= config.limit_s
    counts.pending = joined.filter(is_open & is_young).height
    counts.without_outcome = joined.filter(is_open & ~is_young).height
    counts.joined = joined.filter(~is_open).height
    events = _sessions(joined.filter(~is_open), now_ms, config.session_gap_s)
    return _as_events(events, tasks, user_feature_names, snapshot), counts


def _checked(outcomes: pl.DataFrame, tasks: Sequence[str]) -> pl.DataFrame:
    require_columns(outcomes.columns, ["decision_id", "time_ms", "dwell_s", *tasks], "the outcomes")
    try:
        outcomes = outcomes.select(
            pl.col("decision_id").cast(pl.String),
            pl.col("time_ms").cast(pl.Int64),
            pl.col("dwell_s").cast(pl.Float32),
            *(pl.col(task).cast(pl.UInt8) for task in tasks),
        )
    except pl.exceptions.PolarsError as error:
        raise SchemaError("the outcomes", got=str(error).splitlines()[0]) from error
    bad = ~(pl.col("dwell_s").is_finite() & (pl.col("dwell_s") >= 0)) | pl.any_horizontal(
        pl.all().is_null(), *(pl.col(task) > 1 for task in tasks)
    )
    rows = outcomes.with_row_index("row").filter(bad.fill_null(True))
    if rows.height:
        raise SchemaError(
            "an outcome",
            got=rows.row(0, named=True),
            expected="no gaps, tasks 0 or 1, dwell_s >= 0",
        )
    return outcomes


def _sessions(joined: pl.DataFrame, now_ms: int, gap_s: float) -> pl.DataFrame:
    """With `session_id`, `position`, `left` and `left_known`, in the order of timelines."""
    joined = joined.rename({"session_id": "named"}).sort("user_id", "time_ms", "decision_id")
    pause_s = (pl.col("time_ms").diff() / 1000).over("user_id")
    renamed = (pl.col("named") != pl.col("named").shift()).over("user_id")
    begins = pause_s.is_null() | (pause_s > gap_s) | renamed
    joined = joined.with_columns(session_id=begins.cast(pl.Int64).cum_sum() - 1)
    is_last = pl.int_range(pl.len()).over("session_id") == pl.len().over("session_id") - 1
    ended_ms = pl.col("time_ms").max().over("session_id")
    is_over = (now_ms - ended_ms) / 1000 > gap_s
    has_next = pl.col("session_id") < pl.col("session_id").max().over("user_id")
    return joined.with_columns(
        position=pl.int_range(pl.len(), dtype=pl.Int32).over("session_id"),
        left=is_last & (is_over | has_next),
        left_known=~is_last | is_over | has_next,
    )


def _as_events(
    joined: pl.DataFrame, tasks: Sequence[str], names: Sequence[str], snapshot: int
) -> pl.DataFrame:
    return joined.select(
        pl.col("user_id").alias("history_id"),
        "session_id",
        "position",
        "user_id",
        "time_ms",
        "item_id",
        "dwell_s",
        "left",
        "left_known",
        pl.col("log_propensity").exp().alias("propensity"),
        pl.lit("train").alias("split"),
        pl.lit(value=False).alias("holdout"),
        pl.lit(snapshot, dtype=pl.Int32).alias("snapshot"),
        *tasks,
        *(
            pl.col("user_features").list.get(place).cast(pl.Float32).alias(f"u_{name}")
            for place, name in enumerate(names)
        ),
    )


def counts_text(counts: JoinCounts) -> str:
    """One line for people.

    >>> counts_text(JoinCounts(decisions=3, joined=2, pending=1))
    'decisions 3, joined 2, pending 1, without_outcome 0, outcomes 0, unknown 0, late 0, early 0'
    """
    return ", ".join(f"{name} {num}" for name, num in asdict(counts).items())
