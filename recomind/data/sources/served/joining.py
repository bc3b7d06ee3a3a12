"""Outcomes that come later, joined with their decisions: the next round's logs.

    decisions   d1 user 7, step 0, item 31, propensity .25      (the service's log)
    outcomes    d1 watch_10s 1, dwell_s 9.5                     (the company's, by decision id)
    sessions    session 0, position 0, item 31, propensity .25, watch_10s 1, dwell_s 9.5

An outcome that never came is taken from the session's next request, whose history ends with the
item and what was done with it. Where that is absent too, the session is known up to there and its
end is unknown; so a company sends an outcome for every item that was seen, also where nothing was
done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from recomind.data.sources.served.sessions import as_events, in_sessions, up_to_the_gap
from recomind.data.validate import require_columns
from recomind.errors import ConfigError, SchemaError


@dataclass(kw_only=True, slots=True)
class JoinConfig:
    """What counts as an outcome of a decision, and what as a session."""

    limit_s: float = 86_400.0  # an outcome that comes later than this is left out
    skew_s: float = 60.0  # by so much an outcome's clock may be behind the service's
    session_gap_s: float = 1800.0  # a longer pause of a user begins a session
    unseen_ends: bool = False  # last decisions without an outcome were not seen: the user had left

    def __post_init__(self) -> None:
        for name in ("limit_s", "skew_s", "session_gap_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"join.{name}", got=getattr(self, name), expected=">= 0")


@dataclass(kw_only=True, slots=True)
class JoinCounts:
    """What became of decisions and outcomes."""

    decisions: int = 0
    joined: int = 0  # decisions with an outcome
    told: int = 0  # without one, but the session's next request says what it was
    retried: int = 0  # without either, and asked for again: its answer was not received
    pending: int = 0  # without either, and still within the limit
    without_outcome: int = 0  # without either, and beyond it
    after_gap: int = 0  # known, but after a decision of their session that is not
    headless: int = 0  # sessions whose beginning is not in the log
    outcomes: int = 0  # rows
    repeated: int = 0  # rows that were merged with another of their decision
    unknown: int = 0  # rows without a decision
    late: int = 0  # rows beyond the time limit
    early: int = 0  # rows before their decision by more than the skew


LEFT = "left"  # a column of outcomes that need not be there
Choose = Callable[[pl.DataFrame], pl.DataFrame]  # decisions in sessions -> the wanted ones


def join_outcomes(
    decisions: pl.DataFrame,
    outcomes: pl.DataFrame,
    *,
    tasks: Sequence[str],
    user_feature_names: Sequence[str],
    now_ms: int,
    snapshot: int = 0,
    config: JoinConfig | None = None,
    choose: Choose | None = None,
) -> tuple[pl.DataFrame, JoinCounts]:
    """Sessions from the log of decisions and what became of them.

    Args:
        decisions: as `recomind.data.sources.served.decisions.read_decisions` gives them.
        outcomes: `decision_id`, `time_ms`, `dwell_s` and the tasks, 0/1 or booleans. Several rows
            of one decision are one outcome: what any of them saw, the longest dwell time. Where
            there is a column `left` that is not null, it says whether the user left after it.
        tasks: in order.
        user_feature_names: of the decisions' `user_features`, in order.
        now_ms: until when outcomes were collected; a session that may still go on by then has no
            known end.
        snapshot: of the catalogue that was served.
        config: limits.
        choose: picks whole sessions by `begun_ms` and `begun_scorer`, time and scorer of their
            first decision; all where None. Outcomes of the others are not counted.

    Returns:
        Events with the columns of `recomind.data.sessions.SCHEMA` and `decision_id`, all in the
        split "train": one for each decision that is known, and at position -1 the history that
        the first request of each session brought; and the counts.

    Raises:
        SchemaError: a column is absent, a task is neither 0 nor 1, or a dwell time is negative.
    """
    config = config or JoinConfig()
    outcomes = _checked(outcomes, tasks)
    decisions = decisions.unique("decision_id", keep="first", maintain_order=True)
    placed = in_sessions(decisions, now_ms, config.session_gap_s)
    placed = placed if choose is None else choose(placed)
    counts = JoinCounts(decisions=placed.height)
    counts.unknown = outcomes.join(decisions, on="decision_id", how="anti").height
    joined = placed.join(
        _whole_outcomes(placed, outcomes, tasks, config, counts), on="decision_id", how="left"
    ).sort("session_id", "position")
    joined = _without_retries(_with_told(joined, tasks), counts)
    _count(joined, now_ms, config, counts)
    kept = up_to_the_gap(joined.filter(~pl.col("headless")), unseen_ends=config.unseen_ends)
    known = joined.filter(~pl.col("headless"), ~pl.col("is_open")).height
    counts.after_gap = known - kept.height
    return as_events(kept, tasks, user_feature_names, snapshot), counts


def _checked(outcomes: pl.DataFrame, tasks: Sequence[str]) -> pl.DataFrame:
    require_columns(outcomes.columns, ["decision_id", "time_ms", "dwell_s", *tasks], "the outcomes")
    try:
        outcomes = outcomes.select(
            pl.col("decision_id").cast(pl.String),
            pl.col("time_ms").cast(pl.Int64),
            pl.col("dwell_s").cast(pl.Float32),
            *(pl.col(task).cast(pl.UInt8) for task in tasks),
            left_said=pl.col(LEFT) if LEFT in outcomes.columns else pl.lit(None, pl.Boolean),
        )
    except pl.exceptions.PolarsError as error:
        raise SchemaError("the outcomes", got=str(error).splitlines()[0]) from error
    bad = ~(pl.col("dwell_s").is_finite() & (pl.col("dwell_s") >= 0)) | pl.any_horizontal(
        pl.exclude("left_said").is_null(), *(pl.col(task) > 1 for task in tasks)
    )
    rows = outcomes.with_row_index("row").filter(bad.fill_null(True))
    if rows.height:
        raise SchemaError(
            "an outcome",
            got=rows.row(0, named=True),
            expected="no gaps, tasks 0 or 1, dwell_s >= 0",
        )
    return outcomes


def _whole_outcomes(
    placed: pl.DataFrame,
    outcomes: pl.DataFrame,
    tasks: Sequence[str],
    config: JoinConfig,
    counts: JoinCounts,
) -> pl.DataFrame:
    """One row for each decision that has an outcome in time."""
    timed = outcomes.join(
        placed.select("decision_id", decided_ms="time_ms"), on="decision_id"
    ).with_columns(after_s=(pl.col("time_ms") - pl.col("decided_ms")) / 1000)
    late, early = pl.col("after_s") > config.limit_s, pl.col("after_s") < -config.skew_s
    whole = timed.filter(~late & ~early).group_by("decision_id")
    found = whole.agg(pl.col(*tasks, "dwell_s", "left_said").max(), num_rows=pl.len())
    counts.outcomes, counts.repeated = timed.height, int((found["num_rows"] - 1).sum())
    counts.late, counts.early = timed.filter(late).height, timed.filter(early).height
    return found.drop("num_rows")


def _with_told(joined: pl.DataFrame, tasks: Sequence[str]) -> pl.DataFrame:
    """Outcomes that never came, out of the history of the session's next request.

    Adds `is_joined`, and `is_open` where neither says what became of the decision.
    """
    is_joined = pl.col("dwell_s").is_not_null()

    def of_next(column: str) -> pl.Expr:
        return pl.col(column).list.last().shift(-1).over("session_id")

    tells = of_next("history_item_id") == pl.col("item_id")
    told = ~is_joined & tells.fill_null(False)
    feedback = of_next("history_feedback")
    return joined.with_columns(
        pl.when(told).then(of_next("history_dwell_s")).otherwise("dwell_s").alias("dwell_s"),
        *(
            pl.when(told).then(feedback.list.get(h).cast(pl.UInt8)).otherwise(task).alias(task)
            for h, task in enumerate(tasks)
        ),
        is_open=~is_joined & ~told,
        is_joined=is_joined,
    )


def _without_retries(joined: pl.DataFrame, counts: JoinCounts) -> pl.DataFrame:
    """Without decisions of which nothing is known, and whose request was repeated as it was."""
    same = [
        pl.col(column).shift(-1).over("session_id") == pl.col(column)
        for column in ("step", "history_item_id")
    ]
    retried = pl.col("is_open") & pl.all_horizontal(same).fill_null(False)
    counts.retried = joined.filter(retried).height
    position = pl.int_range(pl.len(), dtype=pl.Int32).over("session_id")
    return joined.filter(~retried).with_columns(position=position)


def _count(joined: pl.DataFrame, now_ms: int, config: JoinConfig, counts: JoinCounts) -> None:
    is_young = (now_ms - pl.col("time_ms")) / 1000 <= config.limit_s
    counts.joined = joined.filter("is_joined").height
    counts.told = joined.filter(~pl.col("is_open") & ~pl.col("is_joined")).height
    counts.pending = joined.filter(pl.col("is_open") & is_young).height
    counts.without_outcome = joined.filter(pl.col("is_open") & ~is_young).height
    counts.headless = joined.filter("headless").height


def counts_text(counts: JoinCounts) -> str:
    """One line for people: what was joined, and whatever else there was.

    >>> counts_text(JoinCounts(decisions=3, joined=2, pending=1))
    'decisions 3, joined 2, pending 1, outcomes 0'
    """
    always = ("decisions", "joined", "outcomes")
    found = {name: num for name, num in asdict(counts).items() if num or name in always}
    return ", ".join(f"{name.replace('_', ' ')} {num}" for name, num in found.items())
