"""Events to sessions: where one begins, which place an event has, and what is known of the end."""

from __future__ import annotations

import polars as pl

from recomind.data.ids import IdMap
from recomind.data.sources.table.config import SessionRules
from recomind.data.times import duration_ms
from recomind.errors import SchemaError


def in_sessions(events: pl.DataFrame, rules: SessionRules) -> pl.DataFrame:
    """Events [E] with history_id, session_id, position, left and left_known, in their order.

    Whether a user left after an event is known where the log goes on for a whole gap after it.
    Within the last gap nothing is: there a session that goes on would be seen and one that ended
    would not, and a hazard fitted on what is seen would come out too low.
    """
    gap_ms = duration_ms(rules.gap, "data.sessions.gap")
    events = _with_timeline(events)
    order = ["history_id", "time_ms", *(["position"] if "position" in events.columns else [])]
    events = events.sort(order, maintain_order=True)
    events = _numbered(events, gap_ms)
    if "position" not in events.columns:
        place = pl.int_range(pl.len(), dtype=pl.Int32).over("session_id")
        events = events.with_columns(position=place)
    events = events.with_columns(pl.col("position").cast(pl.Int32))
    return _with_ends(events, rules, gap_ms)


def _with_timeline(events: pl.DataFrame) -> pl.DataFrame:
    if "timeline" not in events.columns:
        return events.with_columns(history_id=pl.col("user_id"))
    rows = IdMap.of(events["timeline"], keep_integers=True).rows(events["timeline"])
    return events.with_columns(history_id=pl.Series(rows, dtype=pl.Int64))


def _numbered(events: pl.DataFrame, gap_ms: int) -> pl.DataFrame:
    if "session" not in events.columns:
        silence = pl.col("time_ms") - pl.col("time_ms").shift(1).over("history_id")
        is_start = silence.is_null() | (silence > gap_ms)
        return events.with_columns(session_id=is_start.cum_sum().cast(pl.Int64) - 1)
    rows = IdMap.of(events["session"], keep_integers=True).rows(events["session"])
    events = events.with_columns(session_id=pl.Series(rows, dtype=pl.Int64))
    _require_unbroken(events)
    return events


def _require_unbroken(events: pl.DataFrame) -> None:
    begins = (pl.col("session_id") != pl.col("session_id").shift(1)).fill_null(True)
    begins |= pl.col("history_id") != pl.col("history_id").shift(1)
    starts = events.filter(begins)
    twice = starts.filter(pl.col("session_id").is_duplicated())
    if twice.height:
        raise SchemaError(
            "data.sessions.column is shared by users, or sessions of a user overlap in time",
            got=f"session {twice['session'][0]!r} of user {twice['user'][0]!r} "
            f"({twice['session_id'].n_unique()} such sessions)",
            expected="each session one unbroken run of a user's events",
            mend="join it with the user, as in column: \"concat(user, '/', session)\", or leave "
            "data.sessions.column out and set data.sessions.gap",
        )


def _with_ends(events: pl.DataFrame, rules: SessionRules, gap_ms: int) -> pl.DataFrame:
    is_last = pl.col("session_id") != pl.col("session_id").shift(-1).fill_null(-1)
    shown = pl.col("position") >= 0
    if "left" in events.columns:
        known = pl.col("left_known") if "left_known" in events.columns else ~is_last
        return events.with_columns(
            left=pl.col("left") & shown, left_known=(known | pl.col("left")) & shown
        )
    is_seen = pl.col("time_ms") + gap_ms < pl.col("time_ms").max()
    ends = is_last & is_seen if rules.gap_is_end else pl.lit(False)
    return events.with_columns(left=ends & shown, left_known=is_seen & (~is_last | ends) & shown)
